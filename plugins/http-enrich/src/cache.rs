//! Answers of a while ago, bounded in number, bytes and age.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::lookup::Answer;

const MAX_BYTES: usize = 4 << 20;

/// Every answer is kept equally long, so the oldest is also the next to expire: a queue is all the order there is.
pub(crate) struct Cache {
    entries: BTreeMap<Rc<str>, Entry>,
    oldest_first: VecDeque<Rc<str>>,
    bytes: usize,
    max_entries: usize,
    ttl_ms: u64,
}

struct Entry {
    answer: Answer,
    since_ms: u64,
    bytes: usize,
}

impl Cache {
    pub(crate) fn new(max_entries: usize, ttl_ms: u64) -> Self {
        Self { entries: BTreeMap::new(), oldest_first: VecDeque::new(), bytes: 0, max_entries, ttl_ms }
    }

    /// None also where the clock went back: how old such an answer is cannot be told.
    pub(crate) fn get(&self, url: &str, now_ms: u64) -> Option<&Answer> {
        let entry = self.entries.get(url)?;
        let age_ms = now_ms.checked_sub(entry.since_ms)?;
        (age_ms < self.ttl_ms).then_some(&entry.answer)
    }

    pub(crate) fn put(&mut self, url: String, answer: Answer, now_ms: u64) {
        let url: Rc<str> = url.into();
        self.remove(&url);
        let fields = answer.iter().flatten().map(|field| field.get().len()).fold(0_usize, usize::saturating_add);
        let bytes = url.len().saturating_mul(2).saturating_add(fields);
        if bytes > MAX_BYTES {
            return;
        }
        while self.entries.len() >= self.max_entries || self.bytes.saturating_add(bytes) > MAX_BYTES {
            let Some(oldest) = self.oldest_first.front().cloned() else { break };
            self.remove(&oldest);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.insert(Rc::clone(&url), Entry { answer, since_ms: now_ms, bytes });
        self.oldest_first.push_back(url);
    }

    fn remove(&mut self, url: &Rc<str>) {
        let Some(entry) = self.entries.remove(url) else { return };
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        // Almost always the first: what is asked for again has expired, and the oldest expires first.
        if let Some(place) = self.oldest_first.iter().position(|other| other == url) {
            self.oldest_first.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        vec![Some(json_fields::parse(text.as_bytes()).unwrap().to_owned())]
    }

    fn text<'a>(cache: &'a Cache, url: &str, now_ms: u64) -> Option<&'a str> {
        cache.get(url, now_ms).and_then(|answer| answer.first()?.as_deref().map(json_fields::RawValue::get))
    }

    #[test]
    fn an_answer_is_forgotten_when_it_is_too_old_or_from_the_future() {
        let mut cache = Cache::new(10, 100);
        cache.put("a".to_owned(), answer("1"), 1000);
        assert_eq!(text(&cache, "a", 1099), Some("1"));
        assert_eq!(text(&cache, "a", 1100), None);
        assert_eq!(text(&cache, "a", 999), None);
        cache.put("a".to_owned(), answer("2"), 1100);
        assert_eq!((text(&cache, "a", 1100), cache.entries.len(), cache.oldest_first.len()), (Some("2"), 1, 1));
    }

    #[test]
    fn the_oldest_gives_way_to_the_newest() {
        let mut cache = Cache::new(2, 100);
        for (url, json) in [("a", "1"), ("b", "2"), ("c", "3")] {
            cache.put(url.to_owned(), answer(json), 0);
        }
        assert_eq!([text(&cache, "a", 0), text(&cache, "b", 0), text(&cache, "c", 0)], [None, Some("2"), Some("3")]);
    }

    #[test]
    fn all_answers_together_are_bounded_in_bytes() {
        let mut cache = Cache::new(1000, 100);
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        for url in 0..10 {
            cache.put(url.to_string(), answer(&large), 0);
        }
        assert!(cache.bytes <= MAX_BYTES && cache.entries.len() == 3, "{} entries", cache.entries.len());
        cache.put("huge".to_owned(), answer(&format!("\"{}\"", "x".repeat(MAX_BYTES))), 0);
        assert_eq!(text(&cache, "huge", 0), None);
        assert_eq!(cache.entries.len(), cache.oldest_first.len());
    }
}
