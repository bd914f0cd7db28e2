//! Plain structs go in, Arrow columns and compact bytes come out: each column of the flow table is declared once, by a struct field.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt8Array, UInt16Array, UInt32Array, UInt64Array};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// Nanoseconds since the epoch, or absent (null in Arrow). Zero stands for absent: no capture was made in 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub i64);

impl Time {
    /// Keeps the earlier of two times, either of which may be absent.
    pub fn keep_first(&mut self, other: Time) {
        if other.0 != 0 && (self.0 == 0 || other.0 < self.0) {
            *self = other;
        }
    }

    /// Keeps the later of two times, either of which may be absent.
    pub fn keep_last(&mut self, other: Time) {
        if other.0 != 0 && (self.0 == 0 || other.0 > self.0) {
            *self = other;
        }
    }

    pub fn is_set(self) -> bool {
        self.0 != 0
    }
}

/// One column's type: how it is kept in a spill file and how it looks in Arrow.
pub trait Column: Sized + Copy {
    const ARROW: DataType;
    const NULLABLE: bool;
    fn put(self, out: &mut Vec<u8>);
    fn get(input: &mut &[u8]) -> Option<Self>;
    fn array(values: Vec<Self>) -> ArrayRef;
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

macro_rules! plain_column {
    ($ty:ty, $arrow:ident, $array:ident) => {
        impl Column for $ty {
            const ARROW: DataType = DataType::$arrow;
            const NULLABLE: bool = false;
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(input: &mut &[u8]) -> Option<Self> {
                take(input).map(<$ty>::from_le_bytes)
            }
            fn array(values: Vec<Self>) -> ArrayRef {
                Arc::new($array::from(values))
            }
        }
        impl Column for Option<$ty> {
            const ARROW: DataType = DataType::$arrow;
            const NULLABLE: bool = true;
            fn put(self, out: &mut Vec<u8>) {
                out.push(u8::from(self.is_some()));
                self.unwrap_or_default().put(out);
            }
            fn get(input: &mut &[u8]) -> Option<Self> {
                let [present] = take(input)?;
                let value = <$ty>::get(input)?;
                Some((present != 0).then_some(value))
            }
            fn array(values: Vec<Self>) -> ArrayRef {
                Arc::new($array::from(values))
            }
        }
    };
}

plain_column!(u8, UInt8, UInt8Array);
plain_column!(u16, UInt16, UInt16Array);
plain_column!(u32, UInt32, UInt32Array);
plain_column!(u64, UInt64, UInt64Array);

impl Column for bool {
    const ARROW: DataType = DataType::Boolean;
    const NULLABLE: bool = false;
    fn put(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        take(input).map(|[byte]| byte != 0)
    }
    fn array(values: Vec<Self>) -> ArrayRef {
        Arc::new(BooleanArray::from(values))
    }
}

impl Column for Time {
    const ARROW: DataType = DataType::Int64;
    const NULLABLE: bool = true;
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        take(input).map(|bytes| Time(i64::from_le_bytes(bytes)))
    }
    fn array(values: Vec<Self>) -> ArrayRef {
        Arc::new(
            values
                .into_iter()
                .map(|time| time.is_set().then_some(time.0))
                .collect::<Int64Array>(),
        )
    }
}

/// Declares a struct whose fields are columns; `fields`, `put`, `get` and `arrays` follow from the declaration.
macro_rules! columns {
    ($(#[$meta:meta])* pub struct $name:ident { $( $(#[$doc:meta])* pub $field:ident : $ty:ty, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct $name { $( $(#[$doc])* pub $field: $ty, )* }

        impl $name {
            /// The Arrow fields, each name with `suffix` behind it.
            pub fn fields(suffix: &str) -> Vec<arrow::datatypes::Field> {
                use $crate::columns::Column;
                vec![$( arrow::datatypes::Field::new(
                    format!("{}{}", stringify!($field), suffix),
                    <$ty as Column>::ARROW,
                    <$ty as Column>::NULLABLE,
                ), )*]
            }

            /// Appends the row's bytes.
            pub fn put(&self, out: &mut Vec<u8>) {
                use $crate::columns::Column;
                $( self.$field.put(out); )*
            }

            /// Reads back what `put` wrote; None where the bytes end early.
            pub fn get(input: &mut &[u8]) -> Option<Self> {
                use $crate::columns::Column;
                Some($name { $( $field: <$ty as Column>::get(input)?, )* })
            }

            /// The columns of many rows, in the order of `fields`.
            pub fn arrays<'r>(rows: impl Iterator<Item = &'r $name> + Clone) -> Vec<arrow::array::ArrayRef> {
                use $crate::columns::Column;
                vec![$( <$ty as Column>::array(rows.clone().map(|row| row.$field).collect()), )*]
            }
        }
    };
}
pub(crate) use columns;
