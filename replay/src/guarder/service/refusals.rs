//! How services say that a password was wrong, and that it was right.

use psc_formats::packet::Transport;

use crate::guarder::detect::Packet;

/// What a server said of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    No,
    Yes,
}

fn starts(payload: &[u8], with: &[&[u8]]) -> bool {
    with.iter().any(|start| payload.starts_with(start))
}

/// Whether `words` stand somewhere in the first 512 bytes, in any case.
fn says(payload: &[u8], words: &[&[u8]]) -> bool {
    let start = &payload[..payload.len().min(512)];
    words.iter().any(|word| start.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// Session setup of SMB 1 and 2 ([MS-SMB], [MS-SMB2] section 2.2.1).
fn smb(payload: &[u8]) -> Option<Said> {
    let message = payload.get(4..)?;
    let status = if message.starts_with(b"\xfeSMB") {
        let response = message.get(16)? & 1 == 1;
        (message.get(12..14)? == [1, 0] && response).then(|| le32(message, 8))??
    } else if message.starts_with(b"\xffSMB") {
        (*message.get(4)? == 0x73 && message.get(9)? & 0x80 != 0).then(|| le32(message, 5))??
    } else {
        return None;
    };
    match status {
        0 => Some(Said::Yes),
        // Logon failure, wrong password, account locked out, disabled, expired, no such user.
        0xc000_006d | 0xc000_006a | 0xc000_0234 | 0xc000_0072 | 0xc000_0071 | 0xc000_0064 => {
            Some(Said::No)
        }
        _ => None,
    }
}

/// BindResponse (RFC 4511 section 4.2.2): result 49 is invalid credentials.
fn ldap(payload: &[u8]) -> Option<Said> {
    let start = &payload[..payload.len().min(24)];
    let at = start.windows(3).position(|part| part == [0x0a, 1, 0x31] || part == [0x0a, 1, 0])?;
    start[..at].contains(&0x61).then_some(if start[at + 2] == 0x31 { Said::No } else { Said::Yes })
}

/// Its name, and what it says. Only packets from the server's port are asked about.
pub(super) fn read(packet: &Packet<'_>) -> Option<(&'static str, Said)> {
    let payload = packet.payload();
    let said = |no: bool, yes: bool| no.then_some(Said::No).or(yes.then_some(Said::Yes));
    match packet.headers.transport {
        Transport::Tcp(tcp) => {
            let (name, what) = match tcp.sport {
                21 => ("FTP", said(starts(payload, &[b"530 "]), starts(payload, &[b"230"]))),
                23 | 2323 => (
                    "telnet",
                    said(
                        says(
                            payload,
                            &[
                                b"login incorrect",
                                b"login failed",
                                b"authentication failed",
                                b"access denied",
                                b"password incorrect",
                                b"bad password",
                            ],
                        ),
                        says(payload, &[b"last login"]),
                    ),
                ),
                25 | 587 => ("SMTP", said(starts(payload, &[b"535"]), starts(payload, &[b"235"]))),
                88 => ("Kerberos", kerberos(payload.get(4..)?)),
                110 => (
                    "POP3",
                    said(
                        starts(payload, &[b"-ERR"])
                            && says(
                                payload,
                                &[b"auth", b"password", b"login", b"denied", b"invalid"],
                            ),
                        starts(payload, &[b"+OK"])
                            && says(payload, &[b"logged in", b"maildrop", b"mailbox"]),
                    ),
                ),
                143 => (
                    "IMAP",
                    said(
                        says(
                            payload,
                            &[
                                b" no [authenticationfailed]",
                                b" no login",
                                b" no authenticat",
                                b" no invalid",
                                b" no bad",
                            ],
                        ),
                        says(
                            payload,
                            &[b" ok [capability", b" ok login", b" ok logged", b" ok authenticat"],
                        ),
                    ),
                ),
                389 => ("LDAP", ldap(payload)),
                139 | 445 => ("SMB", smb(payload)),
                1433 => (
                    "MS SQL",
                    said(
                        // ERROR token with 18456, then state and class; LOGINACK.
                        payload.first() == Some(&4)
                            && payload.windows(4).take(64).any(|part| part == [0x18, 0x48, 0, 0]),
                        payload.first() == Some(&4) && payload.get(8) == Some(&0xad),
                    ),
                ),
                3306 => (
                    "MySQL",
                    said(
                        payload.get(4..7) == Some(&[0xff, 0x15, 0x04]),
                        payload.len() > 7 && payload.get(3..5) == Some(&[2, 0]),
                    ),
                ),
                5432 => (
                    "PostgreSQL",
                    said(
                        payload.first() == Some(&b'E') && says(payload, &[b"28P01", b"28000"]),
                        payload.get(..9) == Some(b"R\0\0\0\x08\0\0\0\0"),
                    ),
                ),
                5900..=5910 => (
                    "VNC",
                    said(
                        starts(payload, &[b"\0\0\0\x01"])
                            && payload.len() <= 64
                            && payload.len() != 24,
                        payload == b"\0\0\0\0",
                    ),
                ),
                6379 => (
                    "Redis",
                    said(
                        starts(payload, &[b"-WRONGPASS", b"-ERR invalid password", b"-NOAUTH"]),
                        false,
                    ),
                ),
                _ => return None,
            };
            Some((name, what?))
        }
        Transport::Udp(udp) => match udp.sport {
            88 => Some(("Kerberos", kerberos(payload)?)),
            // Access-Accept and Access-Reject (RFC 2865).
            1812 | 1645 => match payload.first()? {
                2 => Some(("RADIUS", Said::Yes)),
                3 => Some(("RADIUS", Said::No)),
                _ => None,
            },
            // 401 and 407 begin each login and answer each wrong one: who is let in excuses them.
            5060 => {
                let no = starts(
                    payload,
                    &[b"SIP/2.0 401", b"SIP/2.0 403", b"SIP/2.0 404", b"SIP/2.0 407"],
                );
                let yes = starts(payload, &[b"SIP/2.0 200"]);
                (says(payload, &[b"REGISTER"])).then(|| said(no, yes)).flatten().map(|s| ("SIP", s))
            }
            _ => None,
        },
        Transport::Icmp(_) | Transport::Ports(..) | Transport::None => None,
    }
}

/// KRB-ERROR 24, pre-authentication failed, and 6, no such client (RFC 4120 section 7.5.9); AS-REP.
fn kerberos(payload: &[u8]) -> Option<Said> {
    match payload.first()? {
        0x7e => {
            let start = &payload[..payload.len().min(128)];
            let code = start.windows(5).find(|part| part[..4] == [0xa6, 3, 2, 1])?[4];
            matches!(code, 6 | 24).then_some(Said::No)
        }
        0x6b => Some(Said::Yes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarder::conversation::Conversations;
    use crate::sample;

    fn smb2(status: u32) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 64];
        out.extend(b"\xfeSMB\x40\0\0\0");
        out.extend(status.to_le_bytes());
        out.extend([1, 0, 1, 0, 1, 0, 0, 0]);
        out.resize(68, 0);
        out
    }

    #[test]
    fn each_service_says_no_in_its_own_way() {
        let flows = Conversations::default();
        #[rustfmt::skip]
        let cases: Vec<(u16, Vec<u8>, Option<Said>)> = vec![
            (21, b"530 Login incorrect.\r\n".to_vec(), Some(Said::No)),
            (21, b"230 Logged in\r\n".to_vec(), Some(Said::Yes)),
            (21, b"331 Password required\r\n".to_vec(), None),
            (23, b"\r\nLogin incorrect\r\n".to_vec(), Some(Said::No)),
            (110, b"-ERR [AUTH] Authentication failed.\r\n".to_vec(), Some(Said::No)),
            (110, b"-ERR no such message\r\n".to_vec(), None),
            (143, b"a1 NO [AUTHENTICATIONFAILED] x\r\n".to_vec(), Some(Said::No)),
            (143, b"* BYE\r\nc OK\r\n".to_vec(), None),
            (389, vec![0x30, 12, 2, 1, 1, 0x61, 7, 0x0a, 1, 0x31, 4, 0, 4, 0], Some(Said::No)),
            (445, smb2(0xc000_006d), Some(Said::No)),
            (445, smb2(0xc000_0016), None),
            (445, smb2(0), Some(Said::Yes)),
            (3306, vec![72, 0, 0, 2, 0xff, 0x15, 0x04, b'#'], Some(Said::No)),
            (5432, b"E\0\0\0\x60SFATAL\0C28P01\0".to_vec(), Some(Said::No)),
            (88, [&[0, 0, 0, 20, 0x7e, 18][..], &[0xa6, 3, 2, 1, 24, 0, 0, 0, 0, 0, 0, 0]].concat(), Some(Said::No)),
            (8080, b"530 Login incorrect.\r\n".to_vec(), None),
        ];
        for (port, payload, expected) in cases {
            let from = format!("10.0.0.2:{port}");
            let mut headers = sample::tcp(&from, "10.0.0.9:4000", 0x18, 1, 1, payload.len() as u32);
            headers.payload_offset = 0;
            for cut in 0..=payload.len() {
                let mut packet = Packet::of(0, &headers, &flows);
                packet.bytes = &payload[..cut];
                let said = read(&packet).map(|(_, said)| said);
                if cut == payload.len() {
                    assert_eq!(said, expected, "{port}: {payload:?}");
                }
            }
        }
    }
}
