//! Photoshop's image resources ("8BIM"), which hold the IPTC records in a JPEG.

/// IPTC IIM records.
pub(super) const IPTC: u16 = 0x0404;

/// What Photoshop's segments begin with in a JPEG.
pub(super) const PREFIX: &[u8; 14] = b"Photoshop 3.0\0";

/// The resources of Photoshop itself, and of programs that add theirs.
const SIGNATURES: [&[u8; 4]; 5] = [b"8BIM", b"AgHg", b"DCSR", b"MeSa", b"PHUT"];

pub(super) struct Resource<'a> {
    /// `None` where it is another program's, whose numbers mean other things.
    pub id: Option<u16>,
    /// Signature, number, name, length, data and padding.
    pub whole: &'a [u8],
    pub data: &'a [u8],
}

/// The resources in `bytes` up to the first damaged one, and whether that is all.
pub(super) fn resources(bytes: &[u8]) -> (Vec<Resource<'_>>, bool) {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(resource) = first(rest) {
        rest = &rest[resource.whole.len()..];
        found.push(resource);
    }
    (found, rest.iter().all(|&byte| byte == 0))
}

fn first(bytes: &[u8]) -> Option<Resource<'_>> {
    let (signature, rest) = bytes.split_first_chunk::<4>()?;
    let (id, rest) = rest.split_first_chunk::<2>()?;
    // A name with its length before it, in an even number of bytes.
    let name = (1 + usize::from(*rest.first()?)).next_multiple_of(2);
    let (length, rest) = rest.get(name..)?.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let data = rest.get(..length)?;
    let head = bytes.len() - rest.len();
    let padded = length.next_multiple_of(2).min(rest.len());
    SIGNATURES.contains(&signature).then(|| Resource {
        id: (signature == b"8BIM").then(|| u16::from_be_bytes(*id)),
        whole: &bytes[..head + padded],
        data,
    })
}

/// A resource without a name; `data` must be shorter than 4 GiB.
pub(super) fn resource(id: u16, data: &[u8]) -> Vec<u8> {
    let mut whole = b"8BIM".to_vec();
    whole.extend(id.to_be_bytes());
    whole.extend([0, 0]);
    whole.extend((data.len() as u32).to_be_bytes());
    whole.extend(data);
    whole.resize(whole.len().next_multiple_of(2), 0);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_up_to_the_damaged_one() {
        let mut named = resource(1005, b"odd");
        named.splice(6..8, *b"\x02ab\0");
        let bytes = [named, resource(IPTC, b"\x1c\x02"), resource(7, b"")].concat();
        let (found, whole) = resources(&bytes);
        let seen: Vec<_> = found.iter().map(|one| (one.id, one.data)).collect();
        let expected: [(_, &[u8]); 3] = [
            (Some(1005), b"odd"),
            (Some(IPTC), b"\x1c\x02"),
            (Some(7), b""),
        ];
        assert_eq!(seen, expected);
        assert!(whole);
        let joined: Vec<u8> = found.iter().flat_map(|one| one.whole).copied().collect();
        assert_eq!(joined, bytes);
        let (found, whole) = resources(&bytes[..bytes.len() - 1]);
        assert_eq!((found.len(), whole), (2, false));
    }

    #[test]
    fn other_programs_numbers_are_theirs() {
        let mut bytes = resource(IPTC, b"ab");
        bytes[..4].copy_from_slice(b"MeSa");
        assert_eq!(resources(&bytes).0[0].id, None);
        bytes[..4].copy_from_slice(b"none");
        assert!(resources(&bytes).0.is_empty());
    }
}
