//! Looks something up at one HTTP API and puts it into the message.
//!
//! ```yaml
//! grants:
//!   clock: coarse
//!   egress: [{ allow: https://rates.example.com, methods: [GET], paths: ["/v1/"] }]
//! config:
//!   url: https://rates.example.com/v1/{{/currency}}?day={{/day}}   # fields of the message, each one path segment or query value
//!   headers: { accept: application/json }
//!   take:                                                          # from the response (JSON) into the message
//!     /rate: /price/rate
//!     /source: { header: x-rate-source }
//!   timeout_ms: 500            # for the connection, and for the response; default 1000
//!   max_body_bytes: 65536      # the longest response; the default
//!   cache: { entries: 1000, ttl_ms: 60000 }   # the defaults; without `cache` each message is a request
//!   on_missing: reject         # or pass: the response (404, or without the field) or the message does not have it
//!   on_error: retry            # or reject, or pass (unchanged): no answer, or one of no use
//! ```
//!
//! The URL's scheme and host cannot come from the message. Credentials belong into `secrets:` of the grant, where no plugin sees them.
//! A redirect is an answer of no use: it is not followed. What no rule touches in the message keeps its bytes; a tombstone passes.
//! A cached answer is kept by each instance of the plugin for itself, the oldest goes first, and all together have at most 4 MiB.
//!
//! Codes:
//! - `not_json`, `not_an_object`: the message is not JSON, or has no place for a field;
//! - `no_field`: a field of the URL is absent in the message, or is no string, number or boolean (`on_missing`);
//! - `bad_value`: a field of the URL cannot be a path segment (empty, `.`, `..`, or with `/`, `\` or a control character) or is too long;
//! - `missing`: the response has no such field, or is a 404 (`on_missing`);
//! - `no_answer`: the request failed on its way, the detail says with which WASI code (`on_error`);
//! - `http_status`: another status than 2xx and 404, the detail says which (`on_error`);
//! - `bad_response`: the response is not JSON (`on_error`);
//! - `denied`: the bridge does not let the request out (`on_error`).
//!
//! `on_error: retry` rejects where another attempt would end the same: `denied`, `bad_response`, and a status other than 408, 425, 429 and 5xx.

mod cache;
mod config;
mod lookup;
mod template;

use cache::Cache;
use config::{Config, OnError, OnMissing, Target};
use lookup::{Answer, Failure};
use portcullis_plugin::{Enricher, Message, Verdict, clock, export_enricher, parse_config};

portcullis_plugin::manifest! {
    enricher,
    clock: "keeps an answer for as long as `cache.ttl_ms` says",
    egress: "looks fields up at the API that `url` names",
    config_schema: r#"{
        "type": "object",
        "required": ["url", "take"],
        "additionalProperties": false,
        "properties": {
            "url": { "type": "string", "pattern": "^https?://" },
            "headers": { "type": "object", "additionalProperties": { "type": "string" } },
            "take": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [
                        { "type": "string", "pattern": "^/" },
                        { "type": "object", "required": ["header"], "properties": { "header": { "type": "string" } } }
                    ]
                }
            },
            "timeout_ms": { "type": "integer", "minimum": 1 },
            "max_body_bytes": { "type": "integer", "minimum": 1 },
            "cache": {
                "type": "object",
                "properties": {
                    "entries": { "type": "integer", "minimum": 1, "maximum": 100000 },
                    "ttl_ms": { "type": "integer", "minimum": 1 }
                }
            },
            "on_missing": { "enum": ["reject", "pass"] },
            "on_error": { "enum": ["retry", "reject", "pass"] }
        }
    }"#,
}

struct HttpEnrich {
    config: Config,
    cache: Option<Cache>,
}

export_enricher!(HttpEnrich);

impl Enricher for HttpEnrich {
    fn configure(json: &str) -> Result<Self, String> {
        let config: Config = parse_config(json)?;
        config.check()?;
        let cache = config.cache.as_ref().map(|bounds| Cache::new(bounds.entries, bounds.ttl_ms));
        Ok(Self { config, cache })
    }

    fn enrich(&mut self, message: &mut Message) -> Verdict {
        self.run(message).unwrap_or_else(|verdict| verdict)
    }
}

impl HttpEnrich {
    fn run(&mut self, message: &mut Message) -> Result<Verdict, Verdict> {
        let Some(bytes) = message.value() else { return Ok(Verdict::pass()) };
        let value = json_fields::parse(bytes)?;
        let Some(url) = self.config.url.expand(value)? else {
            return Ok(self.missing("no_field", "a field of the URL is absent, or no string, number or boolean"));
        };
        let answer = match self.answer(url) {
            Ok(answer) => answer,
            Err(failure) => return Ok(self.failed(failure)),
        };
        if answer.iter().any(Option::is_none) && self.config.on_missing == OnMissing::Reject {
            return Ok(self.missing("missing", "the response does not have it"));
        }
        // Worked out before the first edit, so that a rejected message was never half edited.
        let mut edited: Option<String> = None;
        let mut headers = Vec::new();
        for (target, field) in self.config.take.values().zip(&answer) {
            match (target, field) {
                (_, None) => {}
                (Target::Field(pointer), Some(field)) => {
                    edited = Some(json_fields::set(edited.as_deref().unwrap_or(value.get()), pointer, field.get())?);
                }
                (Target::Header { header }, Some(field)) => headers.push((header, json_fields::header(field))),
            }
        }
        for (name, text) in headers {
            message.set_header(name, text.as_deref());
        }
        if let Some(text) = edited {
            message.set_value(Some(text.into_bytes()));
        }
        Ok(Verdict::pass())
    }

    fn answer(&mut self, url: String) -> Result<Answer, Failure> {
        let Some(cache) = &mut self.cache else { return lookup::ask(&self.config, &url) };
        if let Some(answer) = cache.get(&url, clock::now_ms()) {
            return Ok(answer.clone());
        }
        let answer = lookup::ask(&self.config, &url)?;
        // The time after the request: an answer is not older than it.
        cache.put(url, answer.clone(), clock::now_ms());
        Ok(answer)
    }

    fn missing(&self, code: &'static str, detail: &'static str) -> Verdict {
        match self.config.on_missing {
            OnMissing::Reject => Verdict::reject(code, detail),
            OnMissing::Pass => Verdict::pass(),
        }
    }

    fn failed(&self, failure: Failure) -> Verdict {
        match self.config.on_error {
            OnError::Pass => Verdict::pass(),
            OnError::Retry if failure.may_pass => Verdict::retry(failure.code, failure.detail),
            OnError::Retry | OnError::Reject => Verdict::reject(failure.code, failure.detail),
        }
    }
}

#[cfg(test)]
mod tests;
