//! Ends the process, or what it takes for one. A value that begins with `ok` passes.

use bindings::wasi::cli::exit::exit;
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:ends;

            world ends {
                import wasi:cli/exit@0.2.4;
            }

            package wasi:cli@0.2.4 {
                interface exit {
                    exit: func(status: result);
                }
            }
        ",
        world: "portcullis:ends/ends",
        generate_all,
    });
}

portcullis_plugin::manifest! { validator }

#[validator]
fn exits(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    exit(Err(()));
    Verdict::pass()
}
