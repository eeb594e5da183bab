//! What is seen beyond the ends of a side: it again, in reverse, as often as it takes.

/// The index into `0..length` that `index` shows, where the ends are not repeated: … 2 1 | 0 1 2 …
#[inline]
pub(crate) fn reflect(index: i64, length: usize) -> usize {
    let length = length as i64;
    // Most are inside, and need no division.
    if (0..length).contains(&index) {
        return index as usize;
    }
    // There and back; of a single one, it alone.
    let period = (2 * length - 2).max(1);
    let place = index.rem_euclid(period);
    place.min(period - place).min(length - 1).max(0) as usize
}

/// The index into `0..length` that `index` shows, where the ends are repeated: … 1 0 | 0 1 2 …
#[cfg(feature = "image")]
#[inline]
pub(crate) fn reflect_with_ends(index: i64, length: usize) -> usize {
    let length = length as i64;
    if (0..length).contains(&index) {
        return index as usize;
    }
    let period = (2 * length).max(1);
    let place = index.rem_euclid(period);
    place.min(period - 1 - place) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_seen_once() {
        let found: Vec<usize> = (-3..6).map(|index| reflect(index, 3)).collect();
        assert_eq!(found, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        let single: Vec<usize> = (-2..3).map(|index| reflect(index, 1)).collect();
        assert_eq!(single, [0; 5]);
    }

    #[cfg(feature = "image")]
    #[test]
    fn the_ends_are_seen_twice() {
        let found: Vec<usize> = (-4..8).map(|index| reflect_with_ends(index, 3)).collect();
        assert_eq!(found, [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]);
        let single: Vec<usize> = (-2..3).map(|index| reflect_with_ends(index, 1)).collect();
        assert_eq!(single, [0; 5]);
    }
}
