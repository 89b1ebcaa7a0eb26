//! The known name that is most like an unknown one.

/// The least likeness of two spellings of one name: `worker` is 0.86 like `workers`, `colour` 0.21 like
/// `control_listen`.
const LIKENESS_MIN: f64 = 0.8;

/// Returns the one of `names` that is most like `name`, or else the only one with all of its words.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let names: Vec<&str> = names.into_iter().collect();
    let likenesses = names.iter().map(|known| (likeness(name, known), *known));
    let (likeness, known) = likenesses.max_by(|(left, _), (right, _)| left.total_cmp(right))?;
    if likeness >= LIKENESS_MIN {
        return Some(known);
    }
    let mut with_all_words =
        names.iter().filter(|known| words(name).all(|word| words(known).any(|its| its == word)));
    with_all_words.next().filter(|_| with_all_words.next().is_none()).copied()
}

/// Returns the likeness of two names, from 0 to 1; the order of the words doesn't count.
fn likeness(left: &str, right: &str) -> f64 {
    let in_order = strsim::normalized_damerau_levenshtein(left, right);
    let by_words = strsim::normalized_damerau_levenshtein(&sorted(left), &sorted(right));
    in_order.max(by_words)
}

fn sorted(name: &str) -> String {
    let mut sorted: Vec<&str> = words(name).collect();
    sorted.sort_unstable();
    sorted.join("_")
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['_', '-'])
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const NAMES: [&str; 7] =
        ["root", "workers", "listing", "control_listen", "connections_max", "idle_timeout_ms", "token_file"];

    #[test]
    fn a_slip_of_the_pen_finds_its_name_and_another_word_none() {
        for (name, expected) in [
            ("workres", Some("workers")),
            ("worker", Some("workers")),
            ("rooot", Some("root")),
            ("max_connections", Some("connections_max")),
            ("idle_timeout", Some("idle_timeout_ms")),
            ("token-file", Some("token_file")),
            ("tokenfile", Some("token_file")),
            ("token", Some("token_file")),
            ("timeout", Some("idle_timeout_ms")),
            ("max", Some("connections_max")),
            ("ms_max", None),
            ("colour", None),
            ("limits", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, NAMES), expected, "{name}");
        }
    }
}
