//! Looks for folders of the host. Rejects as `found` where there are any, and names them; passes where there are none.

use bindings::wasi::filesystem::preopens::get_directories;
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:looks;

            world looks {
                import wasi:filesystem/preopens@0.2.4;
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
        ",
        world: "portcullis:looks/looks",
        generate_all,
    });
}

portcullis_plugin::manifest! { validator }

#[validator]
fn probes_preopens(_: &Message) -> Verdict {
    let names: Vec<String> = get_directories().into_iter().map(|(_, name)| name).collect();
    if names.is_empty() { Verdict::pass() } else { Verdict::reject("found", names.join(" ")) }
}
