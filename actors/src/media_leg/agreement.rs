//! What one leg and its peer agreed on, and the offer that is open between them (RFC 3264).
//!
//! In: SDP of the peer, what the other side wants. Out: SDP of ours, the agreed streams. It asks
//! no media plane. The last agreement holds until the next exchange is complete.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use contract::limits::SDP_BODY_BYTES_MAX;
use contract::{Entropy, IceCredentials, Secret, SrtpProfile};
use media::sdp::{
    Attribute, Codec, Direction, Host, LocalMedia, LocalSdp, LocalTransport, Media,
    NegotiationError, RemoteMedia, RemoteTransport, Session, answer_codecs, answer_direction, read,
    read_answer, read_offer, write,
};
use serde::{Deserialize, Serialize};

use super::protection::{Own, Protection, credentials, has_usable_keys};
use super::{Codecs, Stream, Want, codecs};
use crate::dialog::wire::Wire;

/// Our end of a leg, as descriptions of ours say it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    /// Advertised address.
    pub(super) address: IpAddr,
    /// RTP port.
    pub(super) port: u16,
    /// Address in the origin of each description, if it is not `address`: another node had the leg
    /// when the first was made, and it is the same in all of them (RFC 3264 §8).
    pub(super) origin: Option<IpAddr>,
    /// Codecs of the configuration.
    pub(super) configured: &'a [String],
    /// What it protects with.
    pub(super) own: Own<'a>,
}

impl End<'_> {
    /// Writes the origin that all our descriptions have in common.
    fn stamp(&self, session: &mut Session) {
        if let Some(origin) = self.origin {
            session.origin.host = Host::Ip(origin);
        }
    }

    fn local(&self, want: &Want, transport: LocalTransport, rtcp_mux: bool) -> LocalMedia {
        LocalMedia {
            address: self.address,
            port: self.port,
            rtcp_mux,
            direction: want.direction,
            ptime: want.ptime,
            transport,
        }
    }
}

/// Two directions, the codecs of both ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Agreed {
    /// Codecs with the payload types of our description: what the peer sends with.
    pub(super) ours: Vec<Codec>,
    /// The peer's description.
    pub(super) theirs: RemoteMedia,
    /// The stream as we see it.
    pub(super) direction: Direction,
    /// RTP and RTCP share a port (RFC 5761).
    pub(super) rtcp_mux: bool,
}

impl Agreed {
    /// Returns the codecs that both ends have.
    fn shared(&self) -> Vec<Codec> {
        let theirs = self.theirs.all_codecs();
        let is_shared = |codec: &&Codec| theirs.iter().any(|one| one.matches(codec));
        self.ours.iter().filter(is_shared).cloned().collect()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Taken {
    offer: Session,
    remote: RemoteMedia,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    offer: Session,
    codecs: Vec<Codec>,
}

/// The offers and answers of one leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Agreement {
    sdp: LocalSdp,
    /// The peer's offer that awaits our answer.
    taken: Option<Taken>,
    /// Our answer to its last offer: asked for again, it is the same.
    answer: Option<Wire>,
    /// Our last offer: the peer's answers belong to it until either end offers anew.
    made: Option<Made>,
    current: Option<Agreed>,
    /// How the leg is protected; undecided until the peer offers or we shall.
    protection: Option<Protection>,
    /// Counts agreements: each allows latching again.
    negotiation: u32,
}

impl Agreement {
    /// Begins without any; `random` makes the session id.
    pub(super) const fn new(random: u64) -> Self {
        Agreement {
            sdp: LocalSdp::new(random),
            taken: None,
            answer: None,
            made: None,
            current: None,
            protection: None,
            negotiation: 0,
        }
    }

    /// Returns what holds now.
    pub(super) const fn current(&self) -> Option<&Agreed> {
        self.current.as_ref()
    }

    /// Returns the number of agreements so far.
    pub(super) const fn negotiation(&self) -> u32 {
        self.negotiation
    }

    /// Returns how the leg is protected, once that is decided.
    pub(super) const fn protection(&self) -> Option<&Protection> {
        self.protection.as_ref()
    }

    /// The same, to change it.
    pub(super) const fn protection_mut(&mut self) -> Option<&mut Protection> {
        self.protection.as_mut()
    }

    /// Returns where our last description says that we are.
    pub(super) fn described(&self) -> Option<SocketAddr> {
        let last = self.sdp.last()?;
        let port = live(last)?.port;
        match &last.connection {
            Some(Host::Ip(address)) => Some(SocketAddr::new(*address, port)),
            Some(Host::Name(_)) | None => None,
        }
    }

    /// Returns the address in the origin of our last description as it was written by this node.
    pub(super) fn origin(&self) -> Option<IpAddr> {
        match self.sdp.last()?.origin.host {
            Host::Ip(address) => Some(address),
            Host::Name(_) => None,
        }
    }

    /// Counts one agreement more: the peer, which has described itself as before, may be heard from
    /// elsewhere.
    pub(super) const fn renegotiate(&mut self) {
        self.negotiation = self.negotiation.wrapping_add(1);
    }

    /// Decides how the leg is protected, if that is open.
    pub(super) fn decide(&mut self, protection: Protection) {
        self.protection.get_or_insert(protection);
    }

    /// Reads an offer of the peer; the first one decides how the leg is protected, with `profiles`
    /// if it brings keys.
    ///
    /// Errors: the SIP status of the refusal.
    pub(super) fn take_offer(
        &mut self,
        sdp: &Bytes,
        profiles: &[SrtpProfile],
        rng: &mut Entropy,
    ) -> Result<Stream, u16> {
        let offer = parse(sdp)?;
        let former = self.current.as_ref().map(|agreed| agreed.theirs.index);
        // Now, not when the callee has rung and answered. Nothing was agreed on yet, so nothing is
        // lost: a callee that was to be offered another kind may still be met by its own offer.
        let is_taken = |transport: &RemoteTransport| {
            let decided = self.protection.as_ref();
            has_usable_keys(transport, profiles) && decided.is_none_or(|one| one.meets(transport))
        };
        let remote = read_offer(&offer, former, &is_taken).map_err(refusal)?;
        self.protection
            .get_or_insert_with(|| Protection::fitting(&remote.transport, profiles, rng));
        let stream = Stream::from(&remote);
        self.taken = Some(Taken { offer, remote });
        self.answer = None;
        self.made = None;
        Ok(stream)
    }

    /// Reads the peer's answer to our last offer.
    ///
    /// Errors: the SIP status of the refusal; 488 also if no offer of ours is open.
    pub(super) fn take_answer(&mut self, sdp: &Bytes, rng: &mut Entropy) -> Result<Stream, u16> {
        let answer = parse(sdp)?;
        let made = self.made.as_ref().ok_or(488_u16)?;
        let theirs = read_answer(&made.offer, &answer).map_err(refusal)?;
        let protection = self.protection.as_mut().ok_or(500_u16)?;
        let ours = credentials_of(&made.offer);
        if !protection.answered(&theirs.transport, ours, rng) {
            return Err(488);
        }
        let stream = Stream::from(&theirs);
        let direction = theirs.direction.reversed();
        let rtcp_mux = theirs.rtcp_mux;
        self.agree(Agreed {
            ours: made.codecs.clone(),
            theirs,
            direction,
            rtcp_mux,
        });
        Ok(stream)
    }

    /// Writes an offer.
    ///
    /// Errors: the SIP status of the refusal.
    pub(super) fn make_offer(
        &mut self,
        end: &End<'_>,
        want: &Want,
        rng: &mut Entropy,
    ) -> Result<Bytes, u16> {
        let kept = self.current.as_ref();
        let kept = kept.filter(|_| want.codecs == Codecs::Agreed);
        let want = &Want {
            direction: kept.map_or(want.direction, |agreed| agreed.direction),
            ..want.clone()
        };
        let wanted = match (&want.codecs, kept) {
            (_, Some(agreed)) => agreed.shared(),
            (Codecs::Only(codecs), None) => codecs.clone(),
            (Codecs::Configured | Codecs::Any | Codecs::Agreed, None) => {
                codecs::named(end.configured)
            }
            (Codecs::Tone, None) => codecs::of_tones(),
        };
        let protection = self.protection.as_ref().ok_or(500_u16)?;
        let transport = protection.to_offer(&end.own, self.offered_credentials(end, rng));
        let has_mux = self.current.as_ref().is_some_and(|agreed| agreed.rtcp_mux);
        let local = end.local(want, transport, has_mux);
        let mut offer = self.sdp.offer(&local, &wanted).map_err(refusal)?;
        end.stamp(&mut offer);
        let text = Bytes::from(write(&offer));
        self.made = Some(Made {
            offer,
            codecs: self.sdp.codecs(),
        });
        self.taken = None;
        self.answer = None;
        Ok(text)
    }

    /// Writes the answer to the offer taken last.
    ///
    /// Errors: the SIP status of the refusal; 500 if no offer was taken.
    pub(super) fn make_answer(
        &mut self,
        end: &End<'_>,
        want: &Want,
        rng: &mut Entropy,
    ) -> Result<Bytes, u16> {
        let Some(Taken { offer, remote }) = &self.taken else {
            return Wire::bytes(self.answer.as_ref()).ok_or(500);
        };
        let allowed = match &want.codecs {
            Codecs::Only(codecs) => codecs.clone(),
            Codecs::Configured => codecs::named(end.configured),
            Codecs::Tone => codecs::of_tones(),
            Codecs::Any | Codecs::Agreed => remote.all_codecs(),
        };
        let shared = answer_codecs(remote, &allowed).map_err(refusal)?;
        let protection = self.protection.as_mut().ok_or(500_u16)?;
        let transport = protection
            .answer(&remote.transport, &end.own, rng)
            .ok_or(488_u16)?;
        let local = end.local(want, transport, true);
        let mut answer = self
            .sdp
            .answer(offer, remote, &local, &shared)
            .map_err(refusal)?;
        end.stamp(&mut answer);
        let text = Bytes::from(write(&answer));
        let direction = answer_direction(remote.direction, want.direction);
        let agreed = Agreed {
            ours: shared,
            theirs: remote.clone(),
            direction,
            rtcp_mux: remote.rtcp_mux,
        };
        self.agree(agreed);
        self.taken = None;
        self.answer = Some(Wire(text.clone()));
        Ok(text)
    }

    /// Returns the credentials that an offer describes; `None`: the present ones. They stay what was
    /// described last, accepted or not, while that says where we are; elsewhere they are new, since
    /// a new address needs an ICE restart (RFC 8839 §4.4.1.1.1).
    fn offered_credentials(&self, end: &End<'_>, rng: &mut Entropy) -> Option<IceCredentials> {
        let (Some(_), Some(Protection::Webrtc(_)), Some(last)) =
            (&self.current, &self.protection, self.sdp.last())
        else {
            return None;
        };
        if self.described() == Some(SocketAddr::new(end.address, end.port)) {
            credentials_of(last)
        } else {
            Some(credentials(rng))
        }
    }

    /// Forgets the open offer, whoever made it.
    pub(super) fn roll_back(&mut self) {
        self.taken = None;
        self.made = None;
    }

    fn agree(&mut self, agreed: Agreed) {
        if self.current.as_ref() != Some(&agreed) {
            self.negotiation = self.negotiation.wrapping_add(1);
            self.current = Some(agreed);
        }
    }
}

/// Returns our one section of a description of ours.
fn live(session: &Session) -> Option<&Media> {
    session.media.iter().find(|media| media.port != 0)
}

/// Returns the credentials that a description of ours holds.
fn credentials_of(session: &Session) -> Option<IceCredentials> {
    let attributes = || live(session).into_iter().flat_map(|one| &one.attributes);
    let ufrag = attributes().find_map(|attribute| {
        if let Attribute::IceUfrag(ufrag) = attribute {
            Some(ufrag.as_str().to_owned())
        } else {
            None
        }
    })?;
    let pwd = attributes().find_map(|attribute| {
        if let Attribute::IcePwd(pwd) = attribute {
            Some(Secret::new(pwd.expose()))
        } else {
            None
        }
    })?;
    Some(IceCredentials { ufrag, pwd })
}

fn parse(sdp: &Bytes) -> Result<Session, u16> {
    if sdp.len() > SDP_BODY_BYTES_MAX {
        return Err(413);
    }
    read(sdp).map_err(|error| error.status())
}

const fn refusal(error: NegotiationError) -> u16 {
    error.status()
}
