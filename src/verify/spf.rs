//! SPF of `MAIL FROM` (RFC 7208), for sources that know the peer.

use std::net::IpAddr;

use mail_auth::spf::verify::SpfParameters;
use mail_auth::{Parameters, SpfResult};
use tokio::time::{Instant, timeout_at};

use super::dns::{Dns, verifier};
use crate::message::authenticity::{Checked, Word};

/// Whether the peer may send for the domain.
pub(super) async fn check(
    dns: &Dns,
    peer: IpAddr,
    helo: &str,
    sender: &str,
    domain: String,
    deadline: Instant,
) -> Checked {
    let asked = SpfParameters::verify_mail_from(peer, helo, "mail2crm", sender);
    let parameters = Parameters::new(asked);
    let output = match dns {
        Dns::Zone(zone) => {
            let answers = parameters
                .with_txt_cache(&zone.spf)
                .with_mx_cache(&zone.mx)
                .with_ipv4_cache(&zone.a)
                .with_ipv6_cache(&zone.aaaa)
                .with_ptr_cache(&zone.ptr);
            match verifier() {
                Ok(verifier) => timeout_at(deadline, verifier.verify_spf(answers)).await,
                Err(why) => return Checked { result: Word::TempError, domain, why },
            }
        }
        Dns::Network(network) => match network.get() {
            Ok(network) => timeout_at(deadline, network.verify_spf(parameters)).await,
            Err(why) => return Checked { result: Word::TempError, domain, why },
        },
    };
    let (result, why) = match output.map(|output| output.result()) {
        Ok(SpfResult::Pass) => (Word::Pass, ""),
        Ok(SpfResult::Fail) => (Word::Fail, "the domain says that this host may not send for it"),
        Ok(SpfResult::SoftFail) => (Word::SoftFail, "the domain says that this host should not send for it"),
        Ok(SpfResult::Neutral) => (Word::Neutral, "the domain says nothing about this host"),
        Ok(SpfResult::None) => (Word::None, "the domain has no SPF record"),
        Ok(SpfResult::PermError) => (Word::PermError, "the SPF record of the domain can't be read"),
        Ok(SpfResult::TempError) | Err(_) => (Word::TempError, "DNS did not answer"),
    };
    Checked { result, domain, why: why.to_owned() }
}
