use super::*;
use proptest::prelude::*;

/// Feeds the whole input; returns consumed bytes, whether the body ended, and payload bytes.
fn skip(input: &[u8]) -> Result<(usize, bool, u64), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let (consumed, ended) = decoder.skip(input)?;
    Ok((consumed, ended, decoder.payload_bytes()))
}

#[test]
fn whole_bodies_end_where_they_end() {
    let table: [(&str, u64); 10] = [
        ("0\r\n\r\n", 0),
        ("000\r\n\r\n", 0),
        ("5\r\nhello\r\n0\r\n\r\n", 5),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 20),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", 5),
        ("5;name=value\r\nhello\r\n0;last\r\n\r\n", 5),
        ("5 \t;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", 5),
        ("2\r\n\r\n\r\n0\r\n\r\n", 2),
        ("0\r\nDigest: abc\r\nX-A:\r\n\r\n", 0),
        ("1\r\nx\r\n0\r\nA: \u{e4}\tb\r\n\r\n", 1),
    ];
    for (body, payload) in table {
        assert_eq!(skip(body.as_bytes()), Ok((body.len(), true, payload)), "{body:?}");
        let followed = format!("{body}GET / HTTP/1.1\r\n");
        assert_eq!(skip(followed.as_bytes()), Ok((body.len(), true, payload)), "{followed:?}");
        for cut in 0..body.len() {
            let (consumed, ended, _) = skip(&body.as_bytes()[..cut]).unwrap();
            assert_eq!((consumed, ended), (cut, false), "{body:?} cut at {cut}");
        }
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let table = [
        ("\r\n", ChunkError::Size { byte: b'\r' }),
        ("\n", ChunkError::Size { byte: b'\n' }),
        ("g\r\n", ChunkError::Size { byte: b'g' }),
        ("5g\r\n", ChunkError::Size { byte: b'g' }),
        ("+5\r\n", ChunkError::Size { byte: b'+' }),
        ("-1\r\n", ChunkError::Size { byte: b'-' }),
        ("0x5\r\n", ChunkError::Size { byte: b'x' }),
        (" 5\r\n", ChunkError::Size { byte: b' ' }),
        (";a\r\n", ChunkError::Size { byte: b';' }),
        ("5\nhello", ChunkError::Size { byte: b'\n' }),
        ("5\rhello", ChunkError::LineBreak { byte: b'h' }),
        ("5\r\r\n", ChunkError::LineBreak { byte: b'\r' }),
        ("5 \r\n", ChunkError::Extension { byte: b'\r' }),
        ("5 5\r\n", ChunkError::Extension { byte: b'5' }),
        ("5;a\nhello", ChunkError::Extension { byte: b'\n' }),
        ("5;a\0\r\n", ChunkError::Extension { byte: 0 }),
        ("5;a\x7f\r\n", ChunkError::Extension { byte: 0x7f }),
        ("5\r\nhello!", ChunkError::LineBreak { byte: b'!' }),
        ("5\r\nhello\n", ChunkError::LineBreak { byte: b'\n' }),
        ("5\r\nhello0\r\n\r\n", ChunkError::LineBreak { byte: b'0' }),
        ("5\r\nhello\r0", ChunkError::LineBreak { byte: b'0' }),
        ("0\r\n\n", ChunkError::Trailer { byte: b'\n' }),
        ("0\r\n\rx", ChunkError::LineBreak { byte: b'x' }),
        ("0\r\n: x\r\n", ChunkError::Trailer { byte: b':' }),
        ("0\r\n folded\r\n", ChunkError::Trailer { byte: b' ' }),
        ("0\r\nno colon\r\n", ChunkError::Trailer { byte: b' ' }),
        ("0\r\nname\r\n", ChunkError::Trailer { byte: b'\r' }),
        ("0\r\na: b\n", ChunkError::Trailer { byte: b'\n' }),
        ("0\r\na: \0", ChunkError::Trailer { byte: 0 }),
        ("0\r\na: b\rc", ChunkError::LineBreak { byte: b'c' }),
        ("00000000000000000\r\n", ChunkError::SizeTooLong),
        ("10000000000000000\r\n", ChunkError::SizeTooLong),
    ];
    for (body, error) in table {
        assert_eq!(skip(body.as_bytes()), Err(error), "{body:?}");
    }
}

#[test]
fn the_largest_size_is_followed_without_overflow() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.skip(b"ffffffffffffffff\r\n"), Ok((18, false)));
    assert_eq!(decoder.skip(&[0; 100]), Ok((100, false)));
    assert_eq!(decoder.payload_bytes(), 100);
}

#[test]
fn extensions_and_trailers_are_limited_over_the_whole_body() {
    // Each size line has 4 bytes of extension.
    let chunks = EXTENSION_BYTES_MAX as usize / 4;
    assert_eq!(skip("1;ab\r\nx\r\n".repeat(chunks).as_bytes()).unwrap().2, chunks as u64);
    assert_eq!(skip("1;ab\r\nx\r\n".repeat(chunks + 1).as_bytes()), Err(ChunkError::ExtensionsTooLong));

    let line = "a: bcde\r\n";
    let trailers = TRAILER_BYTES_MAX / line.len();
    let fitting = format!("0\r\n{}\r\n", line.repeat(trailers));
    assert_eq!(skip(fitting.as_bytes()), Ok((fitting.len(), true, 0)));
    let excessive = format!("0\r\n{}", line.repeat(trailers + 1));
    assert_eq!(skip(excessive.as_bytes()), Err(ChunkError::TrailersTooLong));
}

#[test]
fn after_the_end_nothing_more_is_consumed() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.skip(b"0\r\n\r\n"), Ok((5, true)));
    assert_eq!(decoder.skip(b"GET"), Ok((0, true)));
    assert_eq!(decoder.skip(b""), Ok((0, true)));
}

#[test]
fn payload_is_handed_out_piece_by_piece() {
    let mut decoder = ChunkedDecoder::new();
    let input = &mut b"5;x\r\nhello\r\n3\r\nwo".as_slice();
    assert_eq!(decoder.next_piece(input), Ok(Piece::Payload(b"hello")));
    assert_eq!(decoder.next_piece(input), Ok(Piece::Payload(b"wo")));
    assert_eq!(decoder.next_piece(input), Ok(Piece::Incomplete));
    let input = &mut b"r\r\n0\r\nDigest: a\r\n\r\nGET".as_slice();
    assert_eq!(decoder.next_piece(input), Ok(Piece::Payload(b"r")));
    assert_eq!(decoder.next_piece(input), Ok(Piece::Ended));
    assert_eq!(*input, b"GET");
    assert_eq!(decoder.next_piece(input), Ok(Piece::Ended));
    assert_eq!((*input, decoder.payload_bytes()), (b"GET".as_slice(), 8));
}

#[test]
fn payload_before_a_fault_is_handed_out() {
    let mut decoder = ChunkedDecoder::new();
    let input = &mut b"2\r\nhi!".as_slice();
    assert_eq!(decoder.next_piece(input), Ok(Piece::Payload(b"hi")));
    assert_eq!(decoder.next_piece(input), Err(ChunkError::LineBreak { byte: b'!' }));
}

fn body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{0,5}(=[a-z]{1,3})?)?");
    (prop::collection::vec(chunk, 0..8), "([a-z]{1,5}: [a-z]{0,5}\r\n){0,3}").prop_map(
        |(chunks, trailers)| {
            let mut body = Vec::new();
            let mut payload = Vec::new();
            for (data, extension) in chunks {
                body.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
                body.extend_from_slice(&data);
                body.extend_from_slice(b"\r\n");
                payload.extend_from_slice(&data);
            }
            body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            (body, payload)
        },
    )
}

/// Feeds the input in pieces of the given lengths, in turn, until it is used up, the body ends or an error comes.
fn skip_in_pieces(input: &[u8], lengths: &[usize]) -> Result<(usize, bool, u64), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut at = 0;
    for &length in lengths.iter().cycle() {
        let piece = &input[at..input.len().min(at + length)];
        let (consumed, ended) = decoder.skip(piece)?;
        at += consumed;
        if ended || at == input.len() {
            return Ok((at, ended, decoder.payload_bytes()));
        }
        assert_eq!(consumed, piece.len());
    }
    unreachable!("lengths are not empty")
}

/// Returns the payload of the input, fed in pieces as in [`skip_in_pieces`], up to its end or first fault.
fn payload_in_pieces(input: &[u8], lengths: &[usize]) -> (Vec<u8>, Result<bool, ChunkError>) {
    let mut decoder = ChunkedDecoder::new();
    let mut payload = Vec::new();
    let mut at = 0;
    for &length in lengths.iter().cycle() {
        let mut piece = &input[at..input.len().min(at + length)];
        at += piece.len();
        loop {
            match decoder.next_piece(&mut piece) {
                Ok(Piece::Payload(bytes)) => {
                    assert!(!bytes.is_empty());
                    payload.extend_from_slice(bytes);
                }
                Ok(Piece::Incomplete) if at == input.len() => return (payload, Ok(false)),
                Ok(Piece::Incomplete) => break,
                Ok(Piece::Ended) => return (payload, Ok(true)),
                Err(error) => return (payload, Err(error)),
            }
        }
        assert!(piece.is_empty());
    }
    unreachable!("lengths are not empty")
}

proptest! {
    #[test]
    fn any_split_gives_the_same_payload(
        body in body(),
        follower: Vec<u8>,
        lengths in prop::collection::vec(1..9usize, 1..9),
    ) {
        let (bytes, payload) = body;
        let stream = [bytes.as_slice(), &follower].concat();
        prop_assert_eq!(payload_in_pieces(&stream, &lengths), (payload, Ok(true)));
    }

    #[test]
    fn any_split_of_any_input_gives_the_same_payload_and_verdict(
        input in "([0-9a-f]\r\n)?[0-9a-f;: \r\nxG\0]{0,60}",
        lengths in prop::collection::vec(1..9usize, 1..9),
    ) {
        let input = input.as_bytes();
        let whole = payload_in_pieces(input, &[input.len().max(1)]);
        prop_assert_eq!(&payload_in_pieces(input, &lengths), &whole);
        prop_assert_eq!(skip(input).map(|(_, ended, _)| ended), whole.1);
    }

    #[test]
    fn valid_bodies_end_exactly(
        body in body(),
        follower: Vec<u8>,
        lengths in prop::collection::vec(1..9usize, 1..9),
    ) {
        let (bytes, payload) = (body.0, body.1.len() as u64);
        let stream = [bytes.as_slice(), &follower].concat();
        prop_assert_eq!(skip(&stream), Ok((bytes.len(), true, payload)));
        prop_assert_eq!(skip_in_pieces(&stream, &lengths), Ok((bytes.len(), true, payload)));
    }

    #[test]
    fn splits_change_nothing(
        input in "[0-9a-f;: \r\nxG\0]{0,60}",
        lengths in prop::collection::vec(1..9usize, 1..9),
    ) {
        let input = input.as_bytes();
        prop_assert_eq!(skip_in_pieces(input, &lengths), skip(input));
    }
}
