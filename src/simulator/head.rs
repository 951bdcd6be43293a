//! The head of a request, and the framing of its body.

use std::ops::Range;

use super::api::Request;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(usize),
    Chunked,
}

/// A head, as places in the buffer that it was parsed from.
#[derive(Debug)]
pub(super) struct Head {
    /// Its length; the body begins here.
    pub bytes: usize,
    pub body: Body,
    pub keep_alive: bool,
    pub expects_continue: bool,
    method: Range<usize>,
    target: Range<usize>,
    key: Option<Range<usize>>,
}

impl Head {
    /// The request, borrowed from the buffer; `None` when its target is no text.
    pub(super) fn request<'a>(&self, input: &'a [u8], body: &'a [u8]) -> Option<Request<'a>> {
        let target = std::str::from_utf8(&input[self.target.clone()]).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Request {
            method: std::str::from_utf8(&input[self.method.clone()]).ok()?,
            path,
            query,
            key: self.key.clone().map(|key| &input[key]),
            body,
        })
    }
}

/// Parses the head at the start of a buffer; `None`: it is not all there yet.
pub(super) fn parse(input: &[u8]) -> Result<Option<Head>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut request = httparse::Request::new(&mut headers);
    let bytes = match request.parse(input) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let place = |part: &[u8]| {
        let from = part.as_ptr().addr() - input.as_ptr().addr();
        from..from + part.len()
    };
    let mut head = Head {
        bytes,
        body: Body::Length(0),
        keep_alive: request.version == Some(1),
        expects_continue: false,
        method: place(request.method.ok_or(())?.as_bytes()),
        target: place(request.path.ok_or(())?.as_bytes()),
        key: None,
    };
    for header in &*request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let has = |value: &[u8]| header.value.to_ascii_lowercase().ends_with(value);
        if is("content-length") {
            let text = std::str::from_utf8(header.value).map_err(drop)?;
            let length = text.trim().parse().map_err(drop)?;
            if head.body != Body::Chunked {
                head.body = Body::Length(length);
            }
        } else if is("transfer-encoding") {
            if !has(b"chunked") {
                return Err(());
            }
            head.body = Body::Chunked;
        } else if is("connection") {
            head.keep_alive &= !has(b"close");
        } else if is("expect") {
            head.expects_continue = has(b"100-continue");
        } else if is("x-api-key") {
            head.key = Some(place(header.value));
        }
    }
    Ok(Some(head))
}

/// Decodes a chunked body that begins at `input`, and says where it ends; `None`: not yet.
pub(super) fn chunked(input: &[u8], decoded: &mut Vec<u8>) -> Result<Option<usize>, ()> {
    decoded.clear();
    let mut at = 0;
    loop {
        let (head, size) = match httparse::parse_chunk_size(&input[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(()),
        };
        at += head;
        if size == 0 {
            // Trailers, up to an empty line.
            let mut none = [httparse::EMPTY_HEADER; 8];
            return match httparse::parse_headers(&input[at..], &mut none) {
                Ok(httparse::Status::Complete((trailers, _))) => Ok(Some(at + trailers)),
                Ok(httparse::Status::Partial) => Ok(None),
                Err(_) => Err(()),
            };
        }
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).ok_or(())?;
        let Some(chunk) = input.get(at..end) else {
            return Ok(None);
        };
        decoded.extend_from_slice(chunk);
        match input.get(end..end + 2) {
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err(()),
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_decoded_only_when_it_is_whole() {
        let whole = b"4\r\n{\"a\"\r\n3;x=y\r\n:1}\r\n0\r\n\r\nPOST";
        let mut decoded = Vec::new();
        for part in 0..whole.len() - 4 {
            assert_eq!(chunked(&whole[..part], &mut decoded), Ok(None), "after {part} bytes");
        }
        assert_eq!(chunked(whole, &mut decoded), Ok(Some(whole.len() - 4)));
        assert_eq!(decoded, b"{\"a\":1}");
        assert_eq!(chunked(b"4\r\nabcdef", &mut decoded), Err(()));
    }

    #[test]
    fn a_head_is_found_only_when_it_is_whole() {
        let whole =
            b"GET /api/orders?limit=3 HTTP/1.1\r\nx-api-key: k\r\nConnection: Close\r\n\r\n";
        for part in 0..whole.len() {
            assert!(parse(&whole[..part]).unwrap().is_none(), "after {part} bytes");
        }
        let head = parse(whole).unwrap().unwrap();
        let request = head.request(whole, &[]).unwrap();
        assert_eq!((request.method, request.path), ("GET", "/api/orders"));
        assert_eq!((request.query, request.key), ("limit=3", Some(b"k".as_slice())));
        assert!(!head.keep_alive);
        assert!(parse(b"\x16\x03\x01\x02\x00").is_err());
    }
}
