//! Targets within dial strings, which quote nothing.

/// Those of the targets that can stand in a dial string, and how many cannot.
pub(crate) fn usable(targets: &[String]) -> (Vec<&str>, usize) {
    let fitting: Vec<_> = targets
        .iter()
        .map(String::as_str)
        .filter(|target| is_usable(target))
        .collect();
    let left_out = targets.len() - fitting.len();
    (fitting, left_out)
}

/// Whether a target has only characters that mean nothing in a dial string. Brackets stand round an IPv6 host alone.
fn is_usable(target: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"@:;=.+_~%*-!'/".contains(&byte);
    let (before, after) = match (target.find('['), target.find(']')) {
        (None, None) => (target, ""),
        (Some(open), Some(close)) if open < close => {
            let (before, rest) = target.split_at(open);
            let (host, after) = rest.split_at(close - open + 1);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let begins_host = before.ends_with('@') || before.ends_with(':');
            let fits_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            let is_address = host.contains(':') && host.bytes().all(fits_address);
            let ends_host = after.is_empty() || after.starts_with([':', ';']);
            if !is_address || !begins_host || !ends_host {
                return false;
            }
            (before, after)
        }
        _ => return false,
    };
    !target.is_empty() && before.bytes().chain(after.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::is_usable;

    #[test]
    fn only_plain_targets_stand_in_a_dial_string() {
        for plain in [
            "sip:a1@agents.example.com",
            "sip:+1555@[2001:db8::1]:5060;transport=tcp",
            "sip:[::1]",
            "sips:o'hara!x*@host.example:5061",
        ] {
            assert!(is_usable(plain), "{plain}");
        }
        for hostile in [
            "",
            "sip:a@b|sip:c@d",
            "sip:a@b,sip:c@d",
            "sip:a@b&c",
            "sip:${system(x)}@b",
            "sip:a b@c",
            "sip:a@b\nx",
            "sip:[a]x@host",
            "[leg_timeout=1]sip:a@b",
            "sip:a@[::1]]",
            "sip:a@][",
            "sip:a@[::1][::2]",
            "sip:a@[]",
            "sip:a@b?x=y",
            "<sip:a@b>",
            "sip:a\"@b",
            "sip:ä@b",
        ] {
            assert!(!is_usable(hostile), "{hostile}");
        }
    }
}
