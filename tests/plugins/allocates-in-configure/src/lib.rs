//! Takes a mebibyte after the other before its first message.

use portcullis_plugin::{Message, Validator, Verdict, export_validator};

portcullis_plugin::manifest! { validator }

struct AllocatesInConfigure;

export_validator!(AllocatesInConfigure);

impl Validator for AllocatesInConfigure {
    fn configure(_: &str) -> Result<Self, String> {
        let mut kept = Vec::new();
        loop {
            kept.push(vec![1_u8; 1 << 20]);
            std::hint::black_box(&kept);
        }
    }

    fn validate(&mut self, _: &Message) -> Verdict {
        Verdict::pass()
    }
}
