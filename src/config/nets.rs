//! Destinations: addresses and networks, with a port or all of them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One of them. IPv4 is kept as `::ffff:a.b.c.d`, as the kernel side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// The network's first address.
    pub address: Ipv6Addr,
    /// Bits of it that count, of 128.
    pub prefix: u8,
    /// `None`: every port.
    pub port: Option<u16>,
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no address, network (10.0.0.0/8) or either with a port (10.0.0.7:9200)");
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { port: Some(socket.port()), ..Self::of(socket.ip(), None).ok_or_else(wrong)? });
        }
        let (text, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (net, rest) = rest.split_once(']').ok_or_else(wrong)?;
                (net, rest.strip_prefix(':'))
            }
            None => match text.split_once('/') {
                Some((_, bits)) if bits.contains(':') => {
                    let (net, port) = text.rsplit_once(':').ok_or_else(wrong)?;
                    (net, Some(port))
                }
                _ => (text, None),
            },
        };
        let port = port.map(str::parse::<u16>).transpose().map_err(|_| wrong())?;
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = bits.map(str::parse::<u8>).transpose().map_err(|_| wrong())?;
        Ok(Self { port, ..Self::of(address, bits).ok_or_else(wrong)? })
    }
}

impl Net {
    fn of(address: IpAddr, bits: Option<u8>) -> Option<Self> {
        let (address, most, base) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 32, 96),
            IpAddr::V6(v6) => (v6, 128, 0),
        };
        let bits = bits.unwrap_or(most);
        let prefix = (bits <= most).then_some(base + bits)?;
        let mask = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
        Some(Self { address: Ipv6Addr::from(u128::from(address) & mask), prefix, port: None })
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.address.to_ipv4_mapped().filter(|_| self.prefix >= 96);
        match (v4, self.port) {
            (Some(v4), None) => write!(f, "{v4}/{}", self.prefix - 96),
            (Some(v4), Some(port)) => write!(f, "{v4}/{}:{port}", self.prefix - 96),
            (None, None) => write!(f, "{}/{}", self.address, self.prefix),
            (None, Some(port)) => write!(f, "[{}/{}]:{port}", self.address, self.prefix),
        }
    }
}

/// Several of them, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nets(pub Vec<Net>);

impl FromStr for Nets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Nets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

impl<'de> Deserialize<'de> for Nets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Nets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_ports() {
        let read = |text: &str| text.parse::<Nets>().map(|nets| nets.to_string());
        assert_eq!(read("10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(read("10.1.2.3/8, 10.0.0.7:9200").as_deref(), Ok("10.0.0.0/8,10.0.0.7/32:9200"));
        assert_eq!(read("10.1.2.3/16:80").as_deref(), Ok("10.1.0.0/16:80"));
        assert_eq!(
            read("fd00::1/8,[fd00::1]:80,[fd00::/8]:81").as_deref(),
            Ok("fd00::/8,[fd00::1/128]:80,[fd00::/8]:81")
        );
        assert_eq!(read("0.0.0.0/0").as_deref(), Ok("0.0.0.0/0"));
        assert_eq!(read(""), Ok(String::new()));
        for wrong in ["10.0.0.0/33", "host", "10.0.0.0/8:x", "[::1", "1.2.3.4:70000"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
