//! What the URLs of stores and gates have in common.

/// Text with `%XX` read.
///
/// # Errors
/// What is wrong, without showing the text: it may be a password.
pub(crate) fn unescaped(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "% is not followed by two hexadecimal digits";
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(WRONG) };
        bytes.push(u8::try_from(16 * high + low).unwrap_or(b'?'));
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "what is written with % is not UTF-8")
}

/// A name that needs no quoting, in a key with braces or in a pattern.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=48).contains(&name.len()) && name.bytes().all(plain)
}
