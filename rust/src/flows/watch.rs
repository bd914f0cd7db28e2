//! What the flow table is told and tells beside packets: where a record came from, where rows go, and who looks on.

use super::row::Row;
use crate::decode::packet::Tcp;
use std::io;

/// Where a record came from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin {
    /// Which file of the vantage point, and the record's number in it.
    pub file: u32,
    pub frame: u64,
    /// Unique over the files of a vantage point: two files may be two interfaces.
    pub interface: u32,
    pub direction: u8,
    pub time_ns: i64,
}

/// What becomes of rows that are done.
pub trait RowSink {
    fn row(&mut self, row: Row) -> io::Result<()>;
}

/// What looks at each flow's segments beside the table itself, and keeps notes of its own.
pub trait Watch {
    /// What is noted of one flow while it lives.
    type Notes: Default + Send;
    /// A segment; `copy` where the packet was counted already.
    fn segment(
        &mut self,
        notes: &mut Self::Notes,
        tcp: &Tcp<'_>,
        from_b: bool,
        copy: bool,
        origin: Origin,
    ) -> io::Result<()>;
    /// The flow is written out; where its notes were put, if there are any.
    fn ended(&mut self, notes: Self::Notes) -> io::Result<Option<u64>>;
}

/// The plain scan notes nothing.
impl Watch for () {
    type Notes = ();

    #[inline]
    fn segment(&mut self, (): &mut (), _: &Tcp<'_>, _: bool, _: bool, _: Origin) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    fn ended(&mut self, (): ()) -> io::Result<Option<u64>> {
        Ok(None)
    }
}
