//! A component that has nothing to do with the contract: it imports nothing and exports a greeting.

#![allow(unsafe_code)]

use bindings::exports::portcullis::elsewhere::greeting::Guest;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:elsewhere@1.0.0;

            interface greeting {
                greet: func(name: string) -> string;
            }

            world other {
                export greeting;
            }
        ",
    });
}

struct OtherWorld;

impl Guest for OtherWorld {
    fn greet(name: String) -> String {
        format!("hello {name}")
    }
}

bindings::export!(OtherWorld with_types_in bindings);
