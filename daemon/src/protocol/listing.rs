//! The query of a request for a listing. Parameters that aren't known are ignored, as everywhere on the data plane.

/// The fact by which entries are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// Their names, in natural order.
    #[default]
    Name,
    /// Their lengths, and names where those are equal.
    Size,
    /// The times of their last change, and names where those are equal.
    Time,
}

/// The order of a listing. Directories come before files in each but [`Order::Directory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the directory has its entries: nothing is held, and the first is sent at once.
    Directory,
    /// Sorted.
    Sorted {
        /// By what.
        key: SortKey,
        /// From the largest to the smallest.
        is_descending: bool,
    },
}

impl Default for Order {
    fn default() -> Order {
        Order::Sorted { key: SortKey::Name, is_descending: false }
    }
}

impl SortKey {
    /// As the query has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            SortKey::Name => "name",
            SortKey::Size => "size",
            SortKey::Time => "time",
        }
    }
}

impl Order {
    /// Reads the query of a request target: `order=none`, `sort=name`, `size` or `time`, and `desc`. Of several the
    /// last counts.
    #[must_use]
    pub fn of_target(target: &str) -> Order {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let (mut key, mut is_descending, mut is_none) = (SortKey::Name, false, false);
        for parameter in query.split('&') {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("order", value) => is_none = value == "none",
                ("sort", "name") => key = SortKey::Name,
                ("sort", "size") => key = SortKey::Size,
                ("sort", "time") => key = SortKey::Time,
                ("desc", value) => is_descending = !matches!(value, "0" | "false"),
                _ => {}
            }
        }
        if is_none { Order::Directory } else { Order::Sorted { key, is_descending } }
    }
}

/// Returns where a directory is that was asked for without the slash at its end, relative to that target: so a prefix
/// that a proxy put before it stays. The dot keeps a name such as `a:b` from being a scheme.
#[must_use]
pub fn location_with_slash(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let segment = path.rsplit_once('/').map_or(path, |(_, segment)| segment);
    let mut location = format!("./{}/", percent_encoding::utf8_percent_encode(segment, FIELD_ESCAPED));
    if let Some(query) = query {
        location.push('?');
        location.extend(percent_encoding::utf8_percent_encode(query, FIELD_ESCAPED));
    }
    location
}

/// What a target may hold as it was sent and a URL may not (RFC 3986 2): all but ASCII, which the encoding escapes, and
/// these. A `%` begins an escape already.
const FIELD_ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_the_order() {
        let sorted = |key, is_descending| Order::Sorted { key, is_descending };
        for (target, order) in [
            ("/", Order::default()),
            ("/?", Order::default()),
            ("/sort=size", Order::default()),
            ("/?sort=size", sorted(SortKey::Size, false)),
            ("/?desc=&sort=time", sorted(SortKey::Time, true)),
            ("/?sort=name&desc", sorted(SortKey::Name, true)),
            ("/?desc=1", sorted(SortKey::Name, true)),
            ("/?desc=0&sort=size&sort=time", sorted(SortKey::Time, false)),
            ("/?sort=colour&C=N;O=D", Order::default()),
            ("/?order=none&sort=size", Order::Directory),
            ("/?order=name", Order::default()),
        ] {
            assert_eq!(Order::of_target(target), order, "{target}");
        }
    }

    #[test]
    fn a_directory_is_found_beside_what_was_asked_for() {
        for (target, location) in [
            ("/a", "./a/"),
            ("/a/b%20c", "./b%20c/"),
            ("/a:b?sort=size&x", "./a:b/?sort=size&x"),
            ("//evil.example", "./evil.example/"),
            ("http://host/a/b?", "./b/?"),
            ("/a%2Fb", "./a%2Fb/"),
            ("/\u{e4}\"?\\", "./%C3%A4%22/?%5C"),
        ] {
            assert_eq!(location_with_slash(target), location, "{target}");
        }
    }
}
