//! Prints, without end, what looks like a line of the operator's log or clears a terminal. A value that begins with `ok` passes, and one
//! that begins with `once` prints once.

use bindings::wasi::cli::{stderr, stdout};
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:prints;

            world prints {
                import wasi:cli/stdout@0.2.4;
                import wasi:cli/stderr@0.2.4;
            }

            package wasi:cli@0.2.4 {
                interface stdout {
                    use wasi:io/streams@0.2.4.{output-stream};
                    get-stdout: func() -> output-stream;
                }
                interface stderr {
                    use wasi:io/streams@0.2.4.{output-stream};
                    get-stderr: func() -> output-stream;
                }
            }

            package wasi:io@0.2.4 {
                interface error {
                    resource error;
                }
                interface streams {
                    use error.{error};
                    variant stream-error { last-operation-failed(error), closed }
                    resource output-stream {
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                    }
                }
            }
        ",
        world: "portcullis:prints/prints",
        generate_all,
    });
}

portcullis_plugin::manifest! { validator }

const LINE: &[u8] = b"\x1b[2J\x1b[H{\"level\":\"error\",\"message\":\"the audit is off\"}\r\n";

#[validator]
fn writes_stdout(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    let once = message.value().is_some_and(|value| value.starts_with(b"once"));
    let (out, err) = (stdout::get_stdout(), stderr::get_stderr());
    loop {
        if out.blocking_write_and_flush(LINE).is_err() || err.blocking_write_and_flush(LINE).is_err() {
            return Verdict::reject("closed", "standard output is closed");
        }
        if once {
            return Verdict::pass();
        }
    }
}
