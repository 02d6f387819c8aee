use std::collections::VecDeque;

/// The pull requests that the server has and what they may still bring. The server serves them in their order, and a
/// message does not say which one it belongs to.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    open: VecDeque<Pull>,
    next: u64,
}

#[derive(Debug)]
struct Pull {
    number: u64,
    left: usize,
}

impl Pulls {
    /// A request for so many messages goes out under the number that this returns.
    pub(super) fn ask(&mut self, messages: usize) -> u64 {
        self.next += 1;
        self.open.push_back(Pull { number: self.next, left: messages });
        self.next
    }

    /// A message came.
    pub(super) fn came(&mut self) {
        if let Some(front) = self.open.front_mut() {
            front.left = front.left.saturating_sub(1);
            if front.left == 0 {
                self.open.pop_front();
            }
        }
    }

    /// The server has ended this request.
    pub(super) fn ended(&mut self, number: u64) {
        self.open.retain(|pull| pull.number != number);
    }

    /// Nothing is expected any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// Messages that may still come.
    pub(super) fn expected(&self) -> usize {
        self.open.iter().map(|pull| pull.left).sum()
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_what_was_asked_without_what_came_or_ended() {
        let mut pulls = Pulls::default();
        let (first, second) = (pulls.ask(3), pulls.ask(5));
        assert_eq!((pulls.expected(), pulls.open()), (8, 2));
        for _ in 0..4 {
            pulls.came();
        }
        assert_eq!((pulls.expected(), pulls.open()), (4, 1));
        pulls.ended(first);
        assert_eq!(pulls.expected(), 4, "an end that comes late ends nothing else");
        pulls.ended(second);
        assert_eq!(pulls.expected(), 0);
        pulls.came();
        assert_eq!(pulls.expected(), 0, "a message too many is no debt");
    }
}
