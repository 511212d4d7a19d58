//! Which addresses a URL may lead to.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;

/// One thing that an operator trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostOrCidr {
    /// A host name, whatever it resolves to.
    Host(String),
    /// A range of addresses, whatever name leads there.
    Net(IpNet),
}

impl FromStr for HostOrCidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net(net));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Net(IpNet::from(address)));
        }
        match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) if !name.contains('/') => Ok(Self::Host(name)),
            _ => Err(format!(
                "{text:?} is neither a host name nor an address range such as 10.0.0.0/8"
            )),
        }
    }
}

/// Global addresses, plus what the operator trusts.
#[derive(Debug, Clone, Default)]
pub struct UrlPolicy {
    allow: Vec<HostOrCidr>,
}

impl UrlPolicy {
    /// A policy that also opens `allow`.
    #[must_use]
    pub fn new(allow: Vec<HostOrCidr>) -> Self {
        Self { allow }
    }

    /// Whether a connection to `address` may be made for a URL whose host is `host`.
    #[must_use]
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        let trusted = |rule: &HostOrCidr| match rule {
            HostOrCidr::Host(name) => name.eq_ignore_ascii_case(host),
            HostOrCidr::Net(net) => net.contains(&address) || net.contains(&address.to_canonical()),
        };
        is_global(address) || self.allow.iter().any(trusted)
    }
}

/// Whether `address` belongs to the open internet. Whatever is reserved, private, local, a tunnel or a translation of
/// another address does not.
///
/// # Source
/// IANA special-purpose address registries for IPv4 and IPv6.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a == 10
        || a == 127
        || a >= 224 // Multicast, reserved and broadcast.
        || (a == 100 && (64..128).contains(&b)) // Carrier-grade NAT.
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2)) // Protocol assignments, documentation.
        || (a == 192 && b == 88 && c == 99) // 6to4 relays.
        || (a == 198 && (b == 18 || b == 19)) // Benchmarks.
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113);
    !special
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Only 2000::/3 is global unicast: loopback, unspecified, mapped, NAT64 (64:ff9b::/96), discard, ULA, link-local
    // and multicast all lie outside.
    let special = !(0x2000..0x4000).contains(&segments[0])
        || (segments[0] == 0x2001 && segments[1] < 0x0200) // Teredo, ORCHID, benchmarks and other assignments.
        || (segments[0] == 0x2001 && segments[1] == 0x0db8)
        || segments[0] == 0x2002 // 6to4 carries an IPv4 address.
        || (segments[0] == 0x3fff && segments[1] < 0x1000); // Documentation.
    !special
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn special_addresses_are_not_global() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.9.9",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_global(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(is_global(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn operators_open_hosts_and_ranges() {
        let policy = UrlPolicy::new(vec![
            "Camera.Local".parse().unwrap(),
            "127.0.0.0/8".parse().unwrap(),
        ]);
        assert!(policy.allows("camera.local", "192.168.0.9".parse().unwrap()));
        assert!(policy.allows("x", "127.0.0.1".parse().unwrap()));
        assert!(
            policy.allows("x", "::ffff:127.0.0.1".parse().unwrap()),
            "a mapped address is the same machine"
        );
        assert!(!policy.allows("x", "192.168.0.9".parse().unwrap()));
        assert_eq!("[::1]".parse::<HostOrCidr>().unwrap(), "::1/128".parse().unwrap());
        for bad in ["", "10.0.0.0/33", "http://x", "a b"] {
            assert!(bad.parse::<HostOrCidr>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// std knows a part of the registries; nothing that it calls special may pass.
        #[test]
        fn never_more_open_than_std(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!(special && is_global(address.into())));
        }

        #[test]
        fn no_ipv6_form_of_an_ipv4_address_is_global(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            prop_assert!(!is_global(address.to_ipv6_mapped().into()));
            prop_assert!(!is_global(address.to_ipv6_compatible().into()));
        }
    }
}
