//! Asks for the network with each message and does nothing with it: the import alone must be refused.
//!
//! `network` is spelled out as far as it goes, since the component linker merges it with the definition that it carries itself.

use bindings::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::{Message, Verdict, validator};

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package portcullis:sockets;

            world sockets {
                import wasi:sockets/instance-network@0.2.12;
            }

            package wasi:sockets@0.2.12 {
                interface network {
                    resource network;
                    enum ip-address-family { ipv4, ipv6 }
                    enum error-code {
                        unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
                        concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
                        address-not-bindable, address-in-use, remote-unreachable, connection-refused, connection-reset,
                        connection-aborted, datagram-too-large, name-unresolvable, temporary-resolver-failure,
                        permanent-resolver-failure,
                    }
                    type ipv4-address = tuple<u8, u8, u8, u8>;
                    type ipv6-address = tuple<u16, u16, u16, u16, u16, u16, u16, u16>;
                    variant ip-address { ipv4(ipv4-address), ipv6(ipv6-address) }
                    record ipv4-socket-address { port: u16, address: ipv4-address }
                    record ipv6-socket-address { port: u16, flow-info: u32, address: ipv6-address, scope-id: u32 }
                    variant ip-socket-address { ipv4(ipv4-socket-address), ipv6(ipv6-socket-address) }
                }
                interface instance-network {
                    use network.{network};
                    instance-network: func() -> network;
                }
            }
        ",
        world: "portcullis:sockets/sockets",
        generate_all,
    });
}

portcullis_plugin::manifest! {
    validator,
    egress: "holds a handle to the network",
}

#[validator]
fn imports_sockets(_: &Message) -> Verdict {
    // A host that links the import hands out a handle; giving it back is the second call into it.
    drop(instance_network());
    Verdict::pass()
}
