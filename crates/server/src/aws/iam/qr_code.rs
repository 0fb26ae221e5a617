//! The picture from which an app takes the seed of a virtual MFA device.

use std::fmt::Write as _;

use qrcode::{Color, QrCode};

use crate::aws::{ApiError, internal_failure};

/// Who the codes are for, as apps show it.
const ISSUER: &str = "Countersign";
/// White modules around the code, as its standard asks for.
const MARGIN: usize = 4;
/// Pixels of a module.
const SCALE: usize = 4;

/// The key URI of an app: `otpauth://totp/ISSUER:DEVICE@ACCOUNT?secret=…&issuer=ISSUER` (IAM API spec, section 4.17).
///
/// The label names the device: whose it will be is not known yet.
pub(super) fn key_uri(device: &str, account: &str, seed: &str) -> String {
    format!(
        "otpauth://totp/{ISSUER}:{}@{account}?secret={seed}&issuer={ISSUER}",
        escaped(device)
    )
}

/// The text as a QR code: a PNG of one bit per pixel.
///
/// # Errors
/// `InternalFailure` when the text does not fit, which no device's does.
pub(super) fn png(text: &str) -> Result<Vec<u8>, ApiError> {
    let failed = |what: &'static str| {
        tracing::error!(what, "a QR code could not be made");
        internal_failure()
    };
    let code = QrCode::new(text).map_err(|_| failed("the code"))?;
    let modules = code.width();
    let colors = code.to_colors();
    let is_dark = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < modules);
        inside(x)
            .zip(inside(y))
            .and_then(|(x, y)| colors.get(y.saturating_mul(modules).saturating_add(x)))
            .is_some_and(|color| *color == Color::Dark)
    };
    let side = modules.saturating_add(2 * MARGIN);
    let pixels = side.saturating_mul(SCALE);
    let mut data = Vec::new();
    for y in 0..side {
        // One is white. The bits behind the end of a line are not looked at.
        let mut line = vec![0xff_u8; pixels.div_ceil(8)];
        for pixel in (0..pixels).filter(|pixel| is_dark(pixel / SCALE, y)) {
            if let Some(byte) = line.get_mut(pixel / 8) {
                *byte &= !(0x80 >> (pixel % 8));
            }
        }
        (0..SCALE).for_each(|_| data.extend_from_slice(&line));
    }
    let size = u32::try_from(pixels).map_err(|_| failed("the size"))?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size, size);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().map_err(|_| failed("the head"))?;
    writer
        .write_image_data(&data)
        .and_then(|()| writer.finish())
        .map_err(|_| failed("the picture"))?;
    Ok(file)
}

/// All but RFC 3986's unreserved characters percent-encoded.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
