//! Replies of others, as they go up: byte for byte, without our `Via` (RFC 3261 §16.7 steps 3 and 9).

use ringback_sip_proto::Message;
use ringback_sip_proto::message::{HeaderName, StartLine, Value};

use crate::request::write_content_length;

/// Appends a reply without its top `Via`. Of a 503 a 500 is made, because the caller shall not take us for the one
/// who is overloaded (§16.7 step 6). On a stream there must be a `Content-Length`.
pub(crate) fn write_upward(message: &Message<'_>, is_stream: bool, out: &mut Vec<u8>) {
    let lacks_length = is_stream && message.count(HeaderName::ContentLength) == 0;
    let is_overload = matches!(message.start(), StartLine::Response { code: 503, .. });
    if is_overload || lacks_length {
        return write_anew(message, is_overload, lacks_length, out);
    }
    let bytes = message.bytes();
    let Some((line, via)) = message
        .first_line(HeaderName::Via)
        .zip(message.first(HeaderName::Via))
    else {
        return;
    };
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or_default();
    out.extend_from_slice(bytes.get(start..line.start).unwrap_or_default());
    write_below(via, out);
    out.extend_from_slice(bytes.get(line.end..message.end()).unwrap_or_default());
}

/// The same, where more than the `Via` changes.
#[cold]
fn write_anew(message: &Message<'_>, is_overload: bool, lacks_length: bool, out: &mut Vec<u8>) {
    match message.start() {
        StartLine::Response { code, reason } if !is_overload => {
            out.extend_from_slice(b"SIP/2.0 ");
            crate::request::write_number(usize::from(code), out);
            out.push(b' ');
            out.extend_from_slice(reason);
            out.extend_from_slice(b"\r\n");
        }
        _ => out.extend_from_slice(b"SIP/2.0 500 Server Internal Error\r\n"),
    }
    let mut is_first = true;
    for line in message.lines() {
        if HeaderName::from_bytes(line.name) == Some(HeaderName::Via) && is_first {
            is_first = false;
            write_below(line.value, out);
        } else if !(is_overload && line.is_named(b"Retry-After")) {
            out.extend_from_slice(line.raw);
        }
    }
    if lacks_length {
        write_content_length(message.body().len(), out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(message.body());
}

/// Appends what stands below our own value on its line, if anything.
fn write_below(via: Value<'_>, out: &mut Vec<u8>) {
    if let Some(below) = via.split_first().1.get(1..) {
        out.extend_from_slice(b"Via: ");
        out.extend_from_slice(below.trim_ascii());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use ringback_sip_proto::message::Framing;

    use super::*;

    fn upward(text: &str, is_stream: bool) -> String {
        let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
        let mut out = Vec::new();
        write_upward(&message, is_stream, &mut out);
        String::from_utf8(out).unwrap()
    }

    // RFC 3261 §16.7 step 3.
    #[test]
    fn only_the_top_via_is_taken_off() {
        let head = "SIP/2.0 180 Ringing \u{e9}\r\nX: a\r\n";
        let rest = "v : SIP/2.0/UDP b\r\n ;x=1\r\nTo:   <sip:a@h>\r\nl: 2\n\r\nab";
        for via in [
            "Via: SIP/2.0/UDP us;branch=1\r\n",
            "v:us\r\n \r\n",
            "VIA :us\n",
        ] {
            let text = format!("\r\n{head}{via}{rest}beyond");
            assert_eq!(upward(&text, false), format!("{head}{rest}"));
        }
        let list = format!("{head}Via: us ,\r\n SIP/2.0/UDP a, SIP/2.0/UDP c\r\n{rest}");
        let below = format!("{head}Via: SIP/2.0/UDP a, SIP/2.0/UDP c\r\n{rest}");
        assert_eq!(upward(&list, false), below);
    }

    // RFC 3261 §16.7 step 6.
    #[test]
    fn a_503_goes_up_as_500_without_retry_after() {
        let text = "SIP/2.0 503 Busy\r\nVia: us\r\nVia: a\r\nRetry-After: 9\r\nX: y\r\n\r\n";
        let expected = "SIP/2.0 500 Server Internal Error\r\nVia: a\r\nX: y\r\n\r\n";
        assert_eq!(upward(text, false), expected);
    }

    #[test]
    fn a_reply_on_a_stream_has_a_content_length() {
        let text = "SIP/2.0 200 Fine\r\nVia: us\r\nVia: a\r\n\r\nbody";
        let expected = "SIP/2.0 200 Fine\r\nVia: a\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(upward(text, true), expected);
        let text = "SIP/2.0 200 Fine\r\nVia: us\r\nl: 0\r\n\r\n";
        assert_eq!(upward(text, true), "SIP/2.0 200 Fine\r\nl: 0\r\n\r\n");
    }
}
