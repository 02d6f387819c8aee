//! Uses WASI as toolchains do: looks at the environment and prints the value to standard output. The value `wait` waits a millisecond,
//! `wait forever` waits without end in the host, `wait and spin` computes without end after a millisecond, `hoard` takes handles
//! without end.

use std::mem::ManuallyDrop;

use bindings::wasi::cli::{environment, stdout};
use bindings::wasi::clocks::monotonic_clock::subscribe_duration;
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:wasi;

            world wasi {
                import wasi:cli/environment@0.2.4;
                import wasi:cli/stdout@0.2.4;
                import wasi:clocks/monotonic-clock@0.2.4;
            }

            package wasi:cli@0.2.4 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                }
                interface stdout {
                    use wasi:io/streams@0.2.4.{output-stream};
                    get-stdout: func() -> output-stream;
                }
            }

            package wasi:clocks@0.2.4 {
                interface monotonic-clock {
                    use wasi:io/poll@0.2.4.{pollable};
                    type duration = u64;
                    subscribe-duration: func(when: duration) -> pollable;
                }
            }

            package wasi:io@0.2.4 {
                interface error {
                    resource error;
                }
                interface poll {
                    resource pollable {
                        block: func();
                    }
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
        world: "portcullis:wasi/wasi",
        generate_all,
    });
}

portcullis_plugin::manifest! {
    validator,
    clock: "waits",
    optional log: "prints to standard output",
}

#[validator]
fn uses_wasi(message: &Message) -> Verdict {
    if !environment::get_environment().is_empty() || !environment::get_arguments().is_empty() {
        return Verdict::reject("not_inert", "there is an environment");
    }
    match message.value().unwrap_or_default() {
        b"wait" => subscribe_duration(1_000_000).block(),
        b"wait and spin" => {
            subscribe_duration(1_000_000).block();
            loop {
                std::hint::black_box(message);
            }
        }
        b"wait forever" => subscribe_duration(u64::MAX).block(),
        b"hoard" => loop {
            std::hint::black_box(ManuallyDrop::new(subscribe_duration(1)));
        },
        text => {
            if stdout::get_stdout().blocking_write_and_flush(text).is_err() {
                return Verdict::reject("closed", "standard output is closed");
            }
        }
    }
    Verdict::pass()
}
