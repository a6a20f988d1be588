//! What `locate` promises, by example.

use crate::{NameAddr, Uri, next_hop};

/// URI, first route, and the hop as `transport host port secure srv`, or the status.
const TABLE: &[(&str, &str, &str)] = &[
    ("sip:a@example.org", "", "UDP example.org 5060 false true"),
    (
        "sip:a@example.org:5070",
        "",
        "UDP example.org 5070 false false",
    ),
    ("sip:a@192.0.2.1", "", "UDP 192.0.2.1 5060 false false"),
    (
        "sip:a@[2001:db8::1];transport=tcp",
        "",
        "TCP [2001:db8::1] 5060 false false",
    ),
    ("sips:a@example.org", "", "TLS example.org 5061 true true"),
    (
        "sips:a@example.org;transport=tcp",
        "",
        "TLS example.org 5061 true true",
    ),
    (
        "sips:a@example.org;transport=ws",
        "",
        "WSS example.org 443 true true",
    ),
    ("sips:a@example.org;transport=udp", "", "503"),
    (
        "sip:a@example.org;transport=tls",
        "",
        "TLS example.org 5061 false true",
    ),
    ("sip:a@example.org;transport=pigeon", "", "503"),
    (
        "sip:a@example.org;maddr=192.0.2.9",
        "",
        "UDP 192.0.2.9 5060 false false",
    ),
    ("sip:a@example.org;maddr=::", "", "400"),
    (
        "sip:a@example.org",
        "<sip:p1.example.org:5080;lr;transport=tcp>",
        "TCP p1.example.org 5080 false false",
    ),
    (
        "sips:a@example.org",
        "<sip:p1.example.org;lr>",
        "TLS p1.example.org 5061 true true",
    ),
    (
        "tel:+1",
        "<sip:gw.example.org;lr>",
        "UDP gw.example.org 5060 false true",
    ),
    ("tel:+1", "", "416"),
    ("urn:service:sos", "", "416"),
];

#[test]
fn the_next_hop_follows_route_and_uri() {
    for (uri, route, wanted) in TABLE {
        let uri: Uri = uri.parse().expect("a URI");
        let route: Vec<NameAddr> = route.parse().into_iter().collect();
        let found = match next_hop(&uri, &route) {
            Ok(hop) => {
                format!(
                    "{} {} {} {} {}",
                    hop.transport, hop.host, hop.port, hop.secure, hop.wants_srv
                )
            }
            Err(error) => error.status().to_string(),
        };
        assert_eq!(found, *wanted, "{uri} via {route:?}");
    }
}
