//! One telegram from its `/` to its checksum, and the lines in it.

/// The longest line; the longest that the companion standard knows is a text message of 2,048 characters.
const MAX_LINE: usize = 4_096;
/// The most lines of a telegram; real ones have some forty.
const MAX_LINES: usize = 512;
/// The most values of one line.
const MAX_GROUPS: usize = 64;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_ARC);

/// Why a telegram is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the telegram does not begin with `/`")]
    Start,
    #[error("the telegram has no line that begins with `!`")]
    End,
    #[error("something follows the end of the telegram")]
    After,
    #[error("a second telegram begins at line {0}")]
    Second(usize),
    #[error("the telegram holds a character that is not printable ASCII")]
    Character,
    #[error("the telegram has no checksum")]
    NoChecksum,
    #[error("the checksum is {stated:04X}, the telegram's is {found:04X}")]
    Checksum { stated: u16, found: u16 },
    #[error("line {0} is no value of a telegram")]
    Line(usize),
    #[error("line {0} has more than {MAX_LINE} characters")]
    LongLine(usize),
    #[error("the telegram has more than {MAX_LINES} lines")]
    Lines,
    #[error("line {0} has more than {MAX_GROUPS} values")]
    Groups(usize),
}

impl FrameError {
    /// Whether a limit refuses it, and not its form.
    pub(super) const fn is_limit(&self) -> bool {
        matches!(self, Self::LongLine(_) | Self::Lines | Self::Groups(_))
    }
}

/// A telegram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Telegram<'p> {
    /// What follows the `/`: maker and type.
    pub(super) identification: &'p str,
    pub(super) objects: Vec<Object<'p>>,
}

/// A value or several under their OBIS code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object<'p> {
    /// Medium and channel: `1-0` of `1-0:1.8.1`.
    pub(super) channel: &'p str,
    /// What is measured: `1.8.1` of `1-0:1.8.1`.
    pub(super) quantity: &'p str,
    /// What stands in brackets, one after the other.
    pub(super) groups: Vec<&'p str>,
}

/// Reads exactly one telegram with nothing but blanks around it. `checked`: it must have a checksum; one that is there
/// must fit in any case.
pub(super) fn parse(payload: &[u8], checked: bool) -> Result<Telegram<'_>, FrameError> {
    let payload = payload.trim_ascii();
    if payload.first() != Some(&b'/') {
        return Err(FrameError::Start);
    }
    if !payload.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t')) {
        return Err(FrameError::Character);
    }
    let text = std::str::from_utf8(payload).map_err(|_| FrameError::Character)?;
    let end = text.find("\n!").ok_or(FrameError::End)? + 2;
    let (body, checksum) = text.split_at(end);
    let verified = match checksum {
        "" if checked => return Err(FrameError::NoChecksum),
        "" => false,
        _ => {
            verify(body, checksum)?;
            true
        }
    };
    let mut lines = body[1..body.len() - 1].split('\n').map(|line| line.trim_end_matches('\r')).zip(1..);
    let identification = lines.next().map_or("", |(line, _)| line);
    let mut objects: Vec<Object<'_>> = Vec::new();
    for (line, number) in lines {
        if number > MAX_LINES {
            return Err(FrameError::Lines);
        }
        if line.len() > MAX_LINE {
            return Err(FrameError::LongLine(number));
        }
        if line.starts_with('/') {
            return Err(FrameError::Second(number));
        }
        if line.trim().is_empty() {
            continue;
        }
        // Old meters break a value off its line.
        let read = match objects.last_mut() {
            Some(last) if line.starts_with('(') => groups(line, &mut last.groups),
            _ => object(line).map(|object| objects.push(object)),
        };
        match read {
            // What the checksum confirms the meter did write, in a form of its maker's.
            None if verified => {}
            None => return Err(FrameError::Line(number)),
            Some(()) if objects.last().is_some_and(|object| object.groups.len() > MAX_GROUPS) => {
                return Err(FrameError::Groups(number));
            }
            Some(()) => {}
        }
    }
    Ok(Telegram { identification, objects })
}

/// The checksum covers everything from `/` to `!`, as the meter wrote it: with carriage returns, which some gateways drop.
fn verify(body: &str, checksum: &str) -> Result<(), FrameError> {
    let digits = checksum.len() == 4 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let stated = u16::from_str_radix(checksum, 16).ok().filter(|_| digits).ok_or(FrameError::After)?;
    let found = if body.contains('\r') {
        CRC.checksum(body.as_bytes())
    } else {
        let mut digest = CRC.digest();
        for line in body.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    digest.update(line.as_bytes());
                    digest.update(b"\r\n");
                }
                None => digest.update(line.as_bytes()),
            }
        }
        digest.finalize()
    };
    if stated == found { Ok(()) } else { Err(FrameError::Checksum { stated, found }) }
}

/// A line of its own: a code and what stands in brackets behind it.
fn object(line: &str) -> Option<Object<'_>> {
    let (code, rest) = line.split_at(line.find('(')?);
    let (channel, quantity) = code.split_once(':')?;
    let (medium, number) = channel.split_once('-')?;
    // The group for billing periods says nothing here.
    let quantity = quantity.split_once('*').map_or(quantity, |(quantity, _)| quantity);
    let mut parts = quantity.split('.');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some() || !three.into_iter().chain([medium, number]).all(is_number) {
        return None;
    }
    let mut object = Object { channel, quantity, groups: Vec::new() };
    groups(rest, &mut object.groups)?;
    Some(object)
}

fn is_number(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Adds every `(…)` of a line; `None` when it holds anything else.
fn groups<'p>(line: &'p str, out: &mut Vec<&'p str>) -> Option<()> {
    let mut rest = line.trim_end();
    let before = out.len();
    while !rest.is_empty() {
        let Some((group, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) else {
            out.truncate(before);
            return None;
        };
        if group.contains('(') {
            out.truncate(before);
            return None;
        }
        out.push(group);
        rest = after;
    }
    Some(())
}
