//! Keeps the handle of its first message and asks it for key and headers at every later one. Rejects as `kept` where it learns anything
//! but what belongs to the message in work: the host may have given the number out again, for this one.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;

use portcullis_plugin::{Message, Validator, Verdict, export_validator};

portcullis_plugin::manifest! { validator }

struct KeepsAHandle {
    kept: Option<ManuallyDrop<Message>>,
}

export_validator!(KeepsAHandle);

impl Validator for KeepsAHandle {
    fn configure(_: &str) -> Result<Self, String> {
        Ok(Self { kept: None })
    }

    fn validate(&mut self, message: &Message) -> Verdict {
        let Some(kept) = &self.kept else {
            // SAFETY: none is claimed for the handle, that is the point. The copy is never dropped, and of it only the handle is used.
            self.kept = Some(ManuallyDrop::new(unsafe { std::ptr::read(message) }));
            return Verdict::pass();
        };
        let same = kept.key() == message.key()
            && kept.timestamp_ms() == message.timestamp_ms()
            && kept.headers().iter().map(|header| &header.name).eq(message.headers().iter().map(|header| &header.name));
        if same { Verdict::pass() } else { Verdict::reject("kept", "the handle of an earlier message answers for it") }
    }
}
