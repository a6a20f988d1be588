//! What is masked still tells two callers apart, and nothing more.

use contract::Private;

use super::user_of;

#[test]
fn masked_addresses_keep_the_end_of_the_number_only() {
    for (address, shown) in [
        ("1000@weft.local", "…00"),
        ("sip:+15551234@192.0.2.1:5060", "…34"),
        ("tel:+15551234", "…34"),
        ("9196", "…96"),
        ("", "…"),
    ] {
        assert_eq!(Private(user_of(address)).to_string(), shown, "{address}");
    }
}
