//! "Did you mean": the nearest word by edit distance.

/// Longest word compared, in characters; bounds the work.
const LENGTH_MAX: usize = 64;

/// The candidate nearest to `word`, if one is near enough to be what was meant. Case, `-` and `_` make no difference.
/// The distance is that of optimal string alignment (Damerau 1964), at most a third of the word's length.
pub fn suggest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = fold(word);
    if word.len() > LENGTH_MAX {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = fold(candidate);
            let longest = word.len().max(other.len());
            if other.len() > LENGTH_MAX {
                return None;
            }
            let distance = distance(&word, &other);
            (distance <= (longest / 3).max(1) && distance < longest).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`. O(a·b).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        let words = ["states", "fields", "messages", "on", "max-wait"];
        let of = |word| suggest(word, words);
        assert_eq!(of("sates"), Some("states"));
        assert_eq!(of("feilds"), Some("fields"));
        assert_eq!(of("Message"), Some("messages"));
        assert_eq!(of("no"), Some("on"), "a swap is one edit");
        assert_eq!(of("max_wait"), Some("max-wait"));
    }

    #[test]
    fn a_word_far_from_all_suggests_nothing() {
        assert_eq!(suggest("zebra", ["states", "fields"]), None);
        assert_eq!(suggest("x", ["y"]), None, "one letter is not meant by another");
        assert_eq!(suggest("", ["a"]), None);
        assert_eq!(suggest(&"a".repeat(1_000_000), ["a"]), None);
        assert_eq!(suggest("a", []), None);
    }
}
