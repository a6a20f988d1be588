//! Proofs, and the steps of a change of the secret.

use super::*;

fn ring(current: u8, previous: Option<u8>) -> Keys {
    Keys::of(&KeyRing {
        current: FabricKeys::new([current; 32]),
        previous: previous.map(|octet| FabricKeys::new([octet; 32])),
    })
}

#[test]
fn a_proof_holds_for_its_secret_its_connection_and_its_side_only() {
    let keys = ring(1, None);
    let here = [3; PROOF_BYTES];
    let proof = keys.prove(Role::Dialler, &here);
    assert!(keys.believes(Role::Dialler, &here, &proof));
    assert!(!keys.believes(Role::Listener, &here, &proof));
    assert!(!keys.believes(Role::Dialler, &[4; PROOF_BYTES], &proof));
    assert!(!ring(2, None).believes(Role::Dialler, &here, &proof));
    assert!(!keys.believes(Role::Dialler, &here, &proof[..31]));
    assert!(!keys.believes(Role::Dialler, &here, &[]));
}

#[test]
fn neighbours_of_every_step_of_a_change_believe_each_other() {
    let steps = [
        ring(1, None),
        ring(1, Some(2)),
        ring(2, Some(1)),
        ring(2, None),
    ];
    let here = [3; PROOF_BYTES];
    for pair in steps.windows(2) {
        for (one, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let proof = one.prove(Role::Listener, &here);
            assert!(other.believes(Role::Listener, &here, &proof));
        }
    }
    let old = steps[0].prove(Role::Listener, &here);
    assert!(!steps[3].believes(Role::Listener, &here, &old));
}
