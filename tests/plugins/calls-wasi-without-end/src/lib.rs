//! Calls one function of WASI for ever; the value says which. None of them needs a grant. A value that begins with `ok` passes.

use std::hint::black_box;

use bindings::wasi::cli::{environment, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use bindings::wasi::filesystem::preopens;
use bindings::wasi::io::poll::poll;
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:calls;

            world calls {
                import wasi:cli/environment@0.2.4;
                import wasi:cli/stdin@0.2.4;
                import wasi:cli/stdout@0.2.4;
                import wasi:cli/stderr@0.2.4;
                import wasi:cli/terminal-stdin@0.2.4;
                import wasi:cli/terminal-stdout@0.2.4;
                import wasi:cli/terminal-stderr@0.2.4;
                import wasi:filesystem/preopens@0.2.4;
                import wasi:io/poll@0.2.4;
            }

            package wasi:cli@0.2.4 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                    initial-cwd: func() -> option<string>;
                }
                interface stdin {
                    use wasi:io/streams@0.2.4.{input-stream};
                    get-stdin: func() -> input-stream;
                }
                interface stdout {
                    use wasi:io/streams@0.2.4.{output-stream};
                    get-stdout: func() -> output-stream;
                }
                interface stderr {
                    use wasi:io/streams@0.2.4.{output-stream};
                    get-stderr: func() -> output-stream;
                }
                interface terminal-input {
                    resource terminal-input;
                }
                interface terminal-output {
                    resource terminal-output;
                }
                interface terminal-stdin {
                    use terminal-input.{terminal-input};
                    get-terminal-stdin: func() -> option<terminal-input>;
                }
                interface terminal-stdout {
                    use terminal-output.{terminal-output};
                    get-terminal-stdout: func() -> option<terminal-output>;
                }
                interface terminal-stderr {
                    use terminal-output.{terminal-output};
                    get-terminal-stderr: func() -> option<terminal-output>;
                }
            }

            package wasi:filesystem@0.2.4 {
                interface types {
                    resource descriptor;
                }
                interface preopens {
                    use types.{descriptor};
                    get-directories: func() -> list<tuple<descriptor, string>>;
                }
            }

            package wasi:io@0.2.4 {
                interface error {
                    resource error;
                }
                interface poll {
                    resource pollable {
                        ready: func() -> bool;
                        block: func();
                    }
                    poll: func(in: list<borrow<pollable>>) -> list<u32>;
                }
                interface streams {
                    use error.{error};
                    use poll.{pollable};
                    variant stream-error { last-operation-failed(error), closed }
                    resource input-stream {
                        read: func(len: u64) -> result<list<u8>, stream-error>;
                        blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
                        skip: func(len: u64) -> result<u64, stream-error>;
                        subscribe: func() -> pollable;
                    }
                    resource output-stream {
                        check-write: func() -> result<u64, stream-error>;
                        write: func(contents: list<u8>) -> result<_, stream-error>;
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                        flush: func() -> result<_, stream-error>;
                        blocking-flush: func() -> result<_, stream-error>;
                        subscribe: func() -> pollable;
                        write-zeroes: func(len: u64) -> result<_, stream-error>;
                        splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
                    }
                }
            }
        ",
        world: "portcullis:calls/calls",
        generate_all,
    });
}

portcullis_plugin::manifest! { validator }

#[validator]
fn calls_wasi_without_end(message: &Message) -> Verdict {
    let way = message.value().unwrap_or_default();
    if way.starts_with(b"ok") {
        return Verdict::pass();
    }
    match way {
        b"environment" => forever(environment::get_environment),
        b"arguments" => forever(environment::get_arguments),
        b"cwd" => forever(environment::initial_cwd),
        b"stdin" => forever(|| std::mem::forget(stdin::get_stdin())),
        b"stdout" => forever(|| std::mem::forget(stdout::get_stdout())),
        b"stderr and its end" => forever(stderr::get_stderr),
        b"terminal-stdin" => forever(terminal_stdin::get_terminal_stdin),
        b"terminal-stdout" => forever(terminal_stdout::get_terminal_stdout),
        b"terminal-stderr" => forever(terminal_stderr::get_terminal_stderr),
        b"folders" => forever(preopens::get_directories),
        _ => on_a_stream(way),
    }
}

fn on_a_stream(way: &[u8]) -> Verdict {
    let (input, output) = (stdin::get_stdin(), stdout::get_stdout());
    let pollable = output.subscribe();
    match way {
        b"ready" => forever(|| pollable.ready()),
        b"block" => forever(|| pollable.block()),
        b"poll" => forever(|| poll(&[&pollable])),
        b"read" => forever(|| input.read(1)),
        b"blocking-read" => forever(|| input.blocking_read(1)),
        b"skip" => forever(|| input.skip(1)),
        b"subscribe and its end" => forever(|| input.subscribe()),
        b"check-write" => forever(|| output.check_write()),
        b"write" => forever(|| output.write(b"x")),
        b"blocking-write-and-flush" => forever(|| output.blocking_write_and_flush(b"x")),
        b"flush" => forever(|| output.flush()),
        b"blocking-flush" => forever(|| output.blocking_flush()),
        b"write-zeroes" => forever(|| output.write_zeroes(1)),
        b"splice" => forever(|| output.splice(&input, 1)),
        _ => Verdict::reject("unknown", "there is no such way"),
    }
}

fn forever<T>(call: impl Fn() -> T) -> Verdict {
    loop {
        black_box(call());
    }
}
