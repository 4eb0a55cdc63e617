//! Certificates that OpenSSL accepts, and so Redis, but webpki does not:
//!
//! - those of X.509 version 1. `openssl x509 -req` without extensions makes them before OpenSSL 3.2,
//!   and so does the script that Redis' manual names, utils/gen-test-certs.sh, there;
//! - a server's own self-signed certificate, which stands in `ca_file` itself.
//!
//! The second must be the same byte for byte. The first has no extensions to judge: its issuer, its
//! signature and its time are what counts. It can sign no other certificate here.

use std::time::Duration;

use tokio_rustls::rustls::pki_types::{
    SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use tokio_rustls::rustls::{CertificateError, Error};

/// The tags of DER (ITU-T X.690) that a certificate has.
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which certificates of version 1 do not have.
const VERSION: u8 = 0xa0;

/// The parts of a certificate (RFC 5280 section 4.1), none of them verified.
pub struct Certificate<'a> {
    is_version_1: bool,
    /// All but the signature.
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    not_before: Duration,
    not_after: Duration,
    key: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER.
    pub fn read(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut outer = Reader(der).inside(SEQUENCE)?;
        let mut inner = Reader(outer.0).inside(SEQUENCE)?;
        let signed = outer.whole(SEQUENCE)?;
        let algorithm = outer.inside(SEQUENCE)?.0;
        let signature = outer.bits()?;
        let is_version_1 = inner.0.first() != Some(&VERSION);
        if !is_version_1 {
            inner.inside(VERSION)?;
        }
        let _serial_number = inner.next()?;
        // The same twice (section 4.1.2.3); here it is signed.
        let _algorithm = Some(inner.inside(SEQUENCE)?.0).filter(|same| *same == algorithm)?;
        let issuer = inner.inside(SEQUENCE)?.0;
        let mut validity = inner.inside(SEQUENCE)?;
        let _subject = inner.inside(SEQUENCE)?;
        Some(Certificate {
            is_version_1,
            signed,
            algorithm,
            signature,
            issuer,
            not_before: validity.time()?,
            not_after: validity.time()?,
            key: inner.whole(SEQUENCE)?,
        })
    }

    /// Returns whether it is of version 1.
    pub fn is_version_1(&self) -> bool {
        self.is_version_1
    }

    /// Returns its public key.
    pub fn key(&self) -> SubjectPublicKeyInfoDer<'a> {
        self.key.into()
    }

    /// Checks that it is valid at this time.
    ///
    /// # Errors
    ///
    /// A certificate that is not valid yet or any more.
    pub fn check_time(&self, now: UnixTime) -> Result<(), Error> {
        let now = Duration::from_secs(now.as_secs());
        if now < self.not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > self.not_after {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }

    /// Checks that one of these CAs has signed it.
    ///
    /// # Errors
    ///
    /// A certificate that none of them has signed.
    pub fn check_issuer(
        &self,
        anchors: &[TrustAnchor<'_>],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), Error> {
        let has_signed = |anchor: &TrustAnchor<'_>| {
            let key = &anchor.subject_public_key_info;
            *anchor.subject == *self.issuer
                && algorithms.iter().any(|algorithm| {
                    *algorithm.signature_alg_id() == *self.algorithm
                        && verifies(*algorithm, key, self.signed, self.signature)
                })
        };
        match anchors.iter().any(has_signed) {
            true => Ok(()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    /// Returns whether its key has made this signature, by one of these algorithms.
    pub fn has_signed(
        &self,
        message: &[u8],
        signature: &[u8],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let key = Reader(self.key).inside(SEQUENCE);
        key.is_some_and(|key| {
            algorithms
                .iter()
                .any(|algorithm| verifies(*algorithm, key.0, message, signature))
        })
    }
}

/// Returns whether a key, as its algorithm and its bits, has made a signature.
fn verifies(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let mut key = Reader(key);
    let parts = key.inside(SEQUENCE).zip(key.bits());
    parts.is_some_and(|(of_key, bits)| {
        *algorithm.public_key_alg_id() == *of_key.0
            && algorithm.verify_signature(bits, message, signature).is_ok()
    })
}

/// DER elements, one after the other.
struct Reader<'a>(&'a [u8]);

struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81 => rest
                .split_first()
                .map(|(byte, rest)| (usize::from(*byte), rest))?,
            0x82 => rest
                .split_first_chunk()
                .map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
            // No certificate fills 64 KiB.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element {
            tag,
            whole,
            content,
        })
    }

    fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    fn inside(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.element(tag).map(|element| Reader(element.content))
    }

    fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|element| element.whole)
    }

    /// Returns a bit string of whole bytes.
    fn bits(&mut self) -> Option<&'a [u8]> {
        self.element(BIT_STRING)?.content.strip_prefix(&[0])
    }

    /// Returns a time since 1970 (RFC 5280 section 4.1.2.5): `YYMMDDHHMMSSZ` until 2049, with
    /// four digits for the year after that. An earlier time counts as 1970.
    fn time(&mut self) -> Option<Duration> {
        let Element { tag, content, .. } = self.next()?;
        let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match tag {
            UTC_TIME => digits.split_at_checked(2)?,
            GENERALIZED_TIME => digits.split_at_checked(4)?,
            _ => return None,
        };
        let year: u64 = match (tag, year.parse::<u64>().ok()?) {
            (UTC_TIME, year @ ..50) => 2000 + year,
            (UTC_TIME, year) => 1900 + year,
            (_, year) => year,
        };
        if rest.len() != 10 {
            return None;
        }
        let number = |from: usize| rest.get(from..from + 2)?.parse::<u64>().ok();
        let (month, day) = (number(0)?, number(2)?);
        let seconds = number(4)? * 3600 + number(6)? * 60 + number(8)?;
        Some(Duration::from_secs(
            days(year, month, day)? * 86_400 + seconds,
        ))
    }
}

/// Returns the days from 1970 to a day of the Gregorian calendar, 0 for an earlier one.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let in_year = BEFORE_MONTH.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    // A leap day counts from March on.
    let leap_years = |last: u64| last / 4 - last / 100 + last / 400;
    let last = if month > 2 {
        year
    } else {
        year.saturating_sub(1)
    };
    let total = year * 365 + leap_years(last) + in_year + day;
    let of_1970 = 1970 * 365 + leap_years(1969) + 1;
    Some(total.saturating_sub(of_1970))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(tag: u8, text: &str) -> Option<u64> {
        let length = u8::try_from(text.len()).unwrap();
        let der = [&[tag, length], text.as_bytes()].concat();
        Reader(&der).time().map(|time| time.as_secs())
    }

    #[test]
    fn times_are_those_that_date_prints() {
        // date -u -d TIME +%s
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000228235959Z", Some(951_782_399)),
            (UTC_TIME, "000229000000Z", Some(951_782_400)),
            (UTC_TIME, "000301000000Z", Some(951_868_800)),
            (UTC_TIME, "261125203923Z", Some(1_795_639_163)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "261325203923Z", None),
            (UTC_TIME, "260025203923Z", None),
            (UTC_TIME, "2611252039Z", None),
            (UTC_TIME, "261125203923+0100", None),
            (UTC_TIME, "+61125203923Z", None),
            (SEQUENCE, "261125203923Z", None),
        ] {
            assert_eq!(time(tag, text), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_anything_but_a_clean_result(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(SEQUENCE), Just(2)], 0..60)
        ) {
            let _ = Certificate::read(&bytes);
        }
    }
}
