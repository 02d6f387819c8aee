//! Writes a value anew with the rules applied, in one pass. What no rule touches is copied as it is written.

use crate::config::{Config, Disposition};
use crate::path::Place;
use crate::rules::{Action, Kind, Scope};
use crate::scan::{Scanner, contents};

/// Why a value was not redacted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotJson { at: usize },
    TooDeep,
    Mismatch { path: String, found: &'static str },
}

/// # Errors
/// Where the value is not JSON, or not in the shape that a path says; nothing of it may be passed on then.
pub(crate) fn rewrite(value: &[u8], config: &Config) -> Result<Vec<u8>, Refusal> {
    let mut rewriter = Rewriter { scanner: Scanner::new(value)?, config, out: Vec::with_capacity(value.len()) };
    rewriter.blank();
    rewriter.whole()?;
    rewriter.blank();
    rewriter.scanner.end()?;
    Ok(rewriter.out)
}

struct Rewriter<'a> {
    scanner: Scanner<'a>,
    config: &'a Config,
    out: Vec<u8>,
}

impl Rewriter<'_> {
    fn whole(&mut self) -> Result<(), Refusal> {
        let scope = self.config.json.top();
        if scope.is_kept || self.is_container() {
            return self.value(&scope);
        }
        // Only named fields are kept, and here are none.
        if self.scanner.value()? != "null" && self.config.on_mismatch != Disposition::Pass {
            return Err(Refusal::Mismatch { path: "of each `keep`".to_owned(), found: Kind::Scalar.as_str() });
        }
        self.write("null");
        Ok(())
    }

    fn value(&mut self, scope: &Scope) -> Result<(), Refusal> {
        if scope.is_done() {
            let text = self.scanner.value()?;
            self.write(text);
            return Ok(());
        }
        match self.scanner.peek() {
            Some(b'{') => {
                self.check(scope, Kind::Object)?;
                self.members(scope, b'{', b'}')
            }
            Some(b'[') => {
                self.check(scope, Kind::Array)?;
                self.members(scope, b'[', b']')
            }
            _ => {
                let text = self.scanner.value()?;
                if text != "null" {
                    self.check(scope, Kind::Scalar)?;
                }
                self.write(text);
                Ok(())
            }
        }
    }

    /// An object or an array. Commas are written before what stays, so that what goes leaves none behind.
    fn members(&mut self, scope: &Scope, open: u8, close: u8) -> Result<(), Refusal> {
        self.scanner.open(open)?;
        self.out.push(open);
        let mut lead = self.scanner.blank();
        if self.scanner.take(close) {
            self.write(lead);
            self.out.push(close);
            self.scanner.close();
            return Ok(());
        }
        let (mut item, mut is_first) = (0_usize, true);
        loop {
            let mark = self.out.len();
            if !is_first {
                self.out.push(b',');
            }
            self.write(lead);
            let stays = if open == b'{' { self.member(scope)? } else { self.child(scope, Place::Item(item))? };
            self.blank();
            if stays {
                is_first = false;
            } else {
                self.out.truncate(mark);
            }
            if !self.scanner.take(b',') {
                break;
            }
            lead = self.scanner.blank();
            item = item.saturating_add(1);
        }
        self.scanner.expect(close)?;
        self.out.push(close);
        self.scanner.close();
        Ok(())
    }

    fn member(&mut self, scope: &Scope) -> Result<bool, Refusal> {
        let name = self.scanner.string()?;
        self.write(name);
        self.blank();
        self.scanner.expect(b':')?;
        self.out.push(b':');
        self.blank();
        self.child(scope, Place::Member(&contents(name)))
    }

    /// Whether the child stays. One that goes is still read to its end: what cannot be parsed hides nothing.
    fn child(&mut self, scope: &Scope, place: Place<'_>) -> Result<bool, Refusal> {
        let below = self.config.json.below(scope, place);
        let stays = below.scope.is_kept || (below.keeps_below && self.is_container());
        match below.action {
            _ if !stays => drop(self.scanner.value()?),
            Some(Action::Remove) => {
                self.scanner.value()?;
                return Ok(false);
            }
            Some(action) => {
                let text = self.scanner.value()?;
                match text {
                    "null" => self.write(text),
                    text => self.out.extend_from_slice(self.config.replacement.json(action, text).as_bytes()),
                }
            }
            None => self.value(&below.scope)?,
        }
        Ok(stays)
    }

    fn check(&self, scope: &Scope, kind: Kind) -> Result<(), Refusal> {
        if self.config.on_mismatch == Disposition::Pass {
            return Ok(());
        }
        match self.config.json.mismatch(scope, kind) {
            Some(path) => Err(Refusal::Mismatch { path: path.to_string(), found: kind.as_str() }),
            None => Ok(()),
        }
    }

    fn is_container(&self) -> bool {
        matches!(self.scanner.peek(), Some(b'{' | b'['))
    }

    fn blank(&mut self) {
        let blank = self.scanner.blank();
        self.write(blank);
    }

    fn write(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}
