//! One function that does nothing: what a component call costs before anything happens. The bench measures against it.

#![allow(unsafe_code)]

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:bench@1.0.0;

            world empty {
                export nop: func();
            }
        ",
    });
}

struct Empty;

impl bindings::Guest for Empty {
    fn nop() {}
}

bindings::export!(Empty with_types_in bindings);
