use super::*;
use proptest::prelude::*;

/// The SHA-256 of `{"hello": "world"}` and a line feed, from RFC 9530 appendix B.1.
const SHA_256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
const BYTES: [u8; 32] = [
    0x44, 0xaf, 0xf4, 0xab, 0x2d, 0x7c, 0x32, 0x50, 0x52, 0x56, 0x75, 0xa0, 0x8f, 0x0c, 0xfa, 0x95, 0x91,
    0x16, 0x8c, 0xff, 0xe5, 0x17, 0x91, 0xc5, 0xf5, 0xbb, 0xc4, 0x17, 0xc1, 0x5a, 0x6c, 0x38,
];
/// The CRC-32C of `123456789`, 0xe3069283 (RFC 3720 B.4).
const CRC: Digest = Digest::Crc32c([0xe3, 0x06, 0x92, 0x83]);

#[test]
fn digests_of_known_algorithms_are_read() {
    let sha = Digest::Sha256(BYTES);
    let table = [
        (SHA_256.to_owned(), vec![sha]),
        ("crc32c=:4waSgw==:".to_owned(), vec![CRC]),
        (format!("crc32c=:4waSgw==:, {SHA_256}"), vec![sha, CRC]),
        (format!("md5=:AAAA:, {SHA_256};a=1,\tsha-512=\"x\""), vec![sha]),
        ("crc32c=:AAAAAA==:, crc32c=:4waSgw==:".to_owned(), vec![CRC]),
        // The value has no padding, which RFC 9651 4.2.7 has parsers accept.
        ("crc32c=:4waSgw:".to_owned(), vec![CRC]),
        ("md5=:AAAA:".to_owned(), vec![]),
        ("unknown".to_owned(), vec![]),
        (String::new(), vec![]),
    ];
    for (field, expected) in table {
        assert_eq!(parse(field.as_bytes()), Ok(expected), "{field}");
    }
}

#[test]
fn values_that_cannot_be_verified_are_errors() {
    let sha = Algorithm::Sha256;
    let crc = Algorithm::Crc32c;
    let table = [
        ("sha-256", DigestError::NoBytes { algorithm: sha }),
        ("sha-256=abc", DigestError::NoBytes { algorithm: sha }),
        ("sha-256=\"RK/0qy18\"", DigestError::NoBytes { algorithm: sha }),
        ("crc32c=3808858755", DigestError::NoBytes { algorithm: crc }),
        ("crc32c=(:4waSgw==:)", DigestError::NoBytes { algorithm: crc }),
        ("sha-256=::", DigestError::Length { algorithm: sha, length: 0 }),
        ("sha-256=:4waSgw==:", DigestError::Length { algorithm: sha, length: 4 }),
        ("crc32c=:4waSgwA=:", DigestError::Length { algorithm: crc, length: 5 }),
        ("md5=:AAAA:, crc32c=:4waS:", DigestError::Length { algorithm: crc, length: 3 }),
        ("sha-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=", DigestError::Malformed),
        ("sha-256=:RK/0qy18", DigestError::Malformed),
        ("sha-256=:!:", DigestError::Malformed),
        ("SHA-256=:4waSgw==:", DigestError::Malformed),
        ("crc32c=:4waSgw==:,", DigestError::Malformed),
        ("crc32c=:4waSgw==: x", DigestError::Malformed),
        ("\"", DigestError::Malformed),
    ];
    for (field, error) in table {
        assert_eq!(parse(field.as_bytes()), Err(error), "{field}");
    }
    assert_eq!(
        DigestError::Length { algorithm: sha, length: 4 }.to_string(),
        "a digest of sha-256 has 32 bytes, and the one that was sent has 4"
    );
}

#[test]
fn digests_are_spelled_as_they_are_read() {
    let sha = Digest::Sha256(BYTES);
    assert_eq!(format(&[sha]).as_deref(), Some(SHA_256));
    assert_eq!(format(&[sha, CRC]), Some(format!("{SHA_256}, crc32c=:4waSgw==:")));
    assert_eq!(format(&[]), None);
    assert_eq!(CRC.to_string(), ":4waSgw==:");
    assert_eq!((sha.algorithm(), sha.bytes()), (Algorithm::Sha256, BYTES.as_slice()));
    assert_eq!(Digest::new(Algorithm::Sha256, &BYTES[1..]), None);
}

#[test]
fn the_most_wanted_algorithm_comes_first() {
    let (sha, crc) = (Algorithm::Sha256, Algorithm::Crc32c);
    let table = [
        ("sha-256=1", vec![sha]),
        ("crc32c=10", vec![crc]),
        ("sha-256=3, crc32c=10", vec![crc, sha]),
        ("crc32c=3, sha-256=10", vec![sha, crc]),
        ("crc32c=5, sha-256=5", vec![sha, crc]),
        ("sha-512=10, sha-256=1, md5=0", vec![sha]),
        ("sha-256=0, crc32c=1", vec![crc]),
        ("sha-256=11, crc32c=-1", vec![]),
        ("sha-256, crc32c=1.0", vec![]),
        ("sha-256=(1), crc32c=\"1\"", vec![]),
        ("sha-512=10", vec![]),
        ("sha-256=1,", vec![]),
        ("", vec![]),
    ];
    for (field, expected) in table {
        assert_eq!(wanted(field.as_bytes()), expected, "{field}");
    }
}

proptest! {
    #[test]
    fn digests_round_trip(sha: [u8; 32], crc: [u8; 4]) {
        let digests = vec![Digest::Sha256(sha), Digest::Crc32c(crc)];
        let field = format(&digests).unwrap();
        prop_assert_eq!(parse(field.as_bytes()), Ok(digests));
    }

    #[test]
    fn no_field_panics(field: Vec<u8>, text in "(sha-256|crc32c|[a-z]{1,3})=[:0-9a-zA-Z+/=]{0,12}[ -~]{0,8}") {
        for field in [field.as_slice(), text.as_bytes()] {
            if let Ok(digests) = parse(field) {
                prop_assert!(digests.len() <= Algorithm::ALL.len());
            }
            let _ = wanted(field);
        }
    }
}
