//! The certificate of media is the same wherever it is made.

use super::certificate::MediaCertificate;

/// Nodes of one cluster show the same certificate, whatever their version: this one is for ever.
#[test]
fn a_key_has_one_certificate() {
    let made = |octet| MediaCertificate::of([octet; 32]).expect("a certificate");
    let golden = "sha-256 2A:61:00:20:4F:10:9D:43:6B:34:5A:46:1A:81:24:B3:97:90:A5:7F:01:11:9E:BD:F6:41:C8:8B:\
                  77:33:93:AD";
    for _ in 0..3 {
        assert_eq!(made(7).fingerprint(), golden);
    }
    assert_ne!(made(8).fingerprint(), golden);
}

/// Zero and what is beyond the order of the curve are no keys.
#[test]
fn octets_that_are_no_key_have_one_all_the_same() {
    for octets in [[0; 32], [0xff; 32]] {
        assert!(MediaCertificate::of(octets).is_ok());
    }
}
