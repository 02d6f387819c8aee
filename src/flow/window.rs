/// How far one assignment may run ahead of its oldest unfinished message. Past it the assignment is paused, so that a
/// message that waits for its retries bounds both the memory and what a restart repeats. Where no position is held back (a
/// source whose messages are acknowledged one by one, or not at all), how many messages may be unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages at which to pause.
    pub max_messages: usize,
    /// Bytes at which to pause.
    pub max_bytes: usize,
}

impl Window {
    /// Whether an assignment that holds this much must not get more. Never true for one that holds nothing: nothing would
    /// ever finish there and end the pause.
    pub fn must_pause(&self, held_messages: usize, held_bytes: usize) -> bool {
        held_messages > 0 && (held_messages >= self.max_messages || held_bytes >= self.max_bytes)
    }

    /// Whether a paused assignment may get more: below half of both bounds, since a pause throws away what the client has
    /// fetched ahead, and one that ends at the bound would come again with the next message.
    pub fn may_resume(&self, held_messages: usize, held_bytes: usize) -> bool {
        let below_half = |held: usize, max: usize| held < max.div_ceil(2);
        held_messages == 0 || below_half(held_messages, self.max_messages) && below_half(held_bytes, self.max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_begins_at_either_bound_and_ends_under_half_of_both() {
        let window = Window { max_messages: 10, max_bytes: 100 };
        assert!(!window.must_pause(9, 99) && window.must_pause(10, 0) && window.must_pause(1, 100));
        assert!(window.may_resume(4, 49) && !window.may_resume(5, 0) && !window.may_resume(1, 50));
    }

    #[test]
    fn no_bound_is_so_small_that_a_pause_never_ends() {
        for max in [0, 1, 2] {
            let window = Window { max_messages: max, max_bytes: max };
            assert!(!window.must_pause(0, 0) && window.may_resume(0, 0));
            assert!(window.must_pause(2, 1_000_000) && !window.may_resume(2, 1_000_000));
        }
    }
}
