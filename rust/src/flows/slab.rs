//! Values go in, numbers come out by which they are found again; numbers of values that were taken out are given anew.

/// Values of one block: blocks are never moved, so that growing copies nothing, and span several huge pages.
const BLOCK: usize = 8_192;

/// Values by number, in blocks.
#[derive(Debug)]
pub struct Slab<T> {
    blocks: Vec<Vec<Option<T>>>,
    free: Vec<usize>,
    len: usize,
}

impl<T> Slab<T> {
    pub fn new() -> Self {
        Slab {
            blocks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// One past the largest number that was ever given.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many values there are.
    pub fn used(&self) -> usize {
        self.len - self.free.len()
    }

    #[inline]
    pub fn get(&self, number: usize) -> Option<&T> {
        self.blocks.get(number / BLOCK)?.get(number % BLOCK)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.blocks.get_mut(number / BLOCK)?.get_mut(number % BLOCK)?.as_mut()
    }

    pub fn insert(&mut self, value: T) -> usize {
        if let Some(number) = self.free.pop() {
            if let Some(slot) = self
                .blocks
                .get_mut(number / BLOCK)
                .and_then(|block| block.get_mut(number % BLOCK))
            {
                *slot = Some(value);
            }
            return number;
        }
        if self.len.is_multiple_of(BLOCK) {
            let block = Vec::with_capacity(BLOCK);
            ask_for_huge_pages(&block);
            self.blocks.push(block);
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(Some(value));
        }
        self.len += 1;
        self.len - 1
    }

    pub fn take(&mut self, number: usize) -> Option<T> {
        let value = self.blocks.get_mut(number / BLOCK)?.get_mut(number % BLOCK)?.take()?;
        self.free.push(number);
        Some(value)
    }
}

/// Asks the kernel for huge pages behind a vector's memory (madvise(2) MADV_HUGEPAGE): flows are met in no order, and with small pages
/// most look-ups would miss the processor's table of pages too. Where the kernel declines, all works as before.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "advice about memory is a call of the system")]
fn ask_for_huge_pages<T>(block: &Vec<T>) {
    const PAGE: usize = 4_096;
    let start = block.as_ptr() as usize;
    let end = start + block.capacity() * size_of::<T>();
    let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
    if last > first {
        // SAFETY: the pages lie wholly inside the vector's own allocation, and this advice changes neither their contents nor whether
        // they may be read or written.
        unsafe {
            libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages<T>(_: &Vec<T>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers_and_numbers_are_given_anew() {
        let mut slab = Slab::new();
        let numbers: Vec<usize> = (0..3 * BLOCK).map(|value| slab.insert(value)).collect();
        assert_eq!(numbers, (0..3 * BLOCK).collect::<Vec<_>>());
        assert_eq!(slab.take(BLOCK), Some(BLOCK));
        assert_eq!(
            (slab.take(BLOCK), slab.get(BLOCK), slab.get(3 * BLOCK)),
            (None, None, None)
        );
        assert_eq!((slab.used(), slab.len()), (3 * BLOCK - 1, 3 * BLOCK));
        assert_eq!(slab.insert(7), BLOCK);
        assert_eq!(slab.get(BLOCK), Some(&7));
        assert_eq!(slab.get_mut(BLOCK + 1), Some(&mut (BLOCK + 1)));
    }
}
