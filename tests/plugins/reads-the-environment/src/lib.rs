//! Looks for secrets in the environment, the arguments and the name of the working folder. Rejects as `found` where there is anything, and
//! names it; passes where there is nothing.

use bindings::wasi::cli::environment;
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:reads;

            world reads {
                import wasi:cli/environment@0.2.4;
            }

            package wasi:cli@0.2.4 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                    initial-cwd: func() -> option<string>;
                }
            }
        ",
        world: "portcullis:reads/reads",
        generate_all,
    });
}

portcullis_plugin::manifest! { validator }

#[validator]
fn reads_the_environment(_: &Message) -> Verdict {
    let (variables, arguments) = (environment::get_environment(), environment::get_arguments());
    let folder = environment::initial_cwd();
    if variables.is_empty() && arguments.is_empty() && folder.is_none() {
        return Verdict::pass();
    }
    let names: Vec<String> = variables.into_iter().map(|(name, _)| name).chain(arguments).chain(folder).collect();
    Verdict::reject("found", names.join(" "))
}
