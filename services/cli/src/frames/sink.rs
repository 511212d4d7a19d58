//! Where pixels go.

use std::{
    collections::HashSet,
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use reelsight_media::RgbFrame;

use super::{
    names::NamePattern,
    picture::{self, JPEG_QUALITY, Pending, unwritable},
    sheet::Sheet,
};
use crate::{
    args::{OutputArgs, PictureFormat},
    exit::Failure,
};

/// Everything that was asked for; nothing when only times and digests are wanted.
pub(crate) struct Sinks {
    folder: Option<Folder>,
    raw: Option<Raw>,
    sheet: Option<Sheet>,
}

impl Sinks {
    pub(crate) fn new(args: &OutputArgs) -> Result<Self, Failure> {
        let documents = args.json || args.jsonl;
        let to_stdout = args.raw.as_deref() == Some(Path::new("-"));
        if to_stdout && documents {
            return Err(Failure::usage("--raw - and --json both want standard output"));
        }
        let sheet_format = args.contact_sheet.as_deref().map(|path| {
            PictureFormat::of(path).ok_or_else(|| {
                Failure::usage("--contact-sheet: the file's name must end in .png, .jpg or .webp")
            })
        });
        let sheet_format = sheet_format.transpose()?;
        let writes_jpeg = args.format == PictureFormat::Jpeg || sheet_format == Some(PictureFormat::Jpeg);
        if args.quality.is_some() && !writes_jpeg {
            return Err(Failure::usage(
                "--quality is for JPEG: PNG and WebP are written without loss",
            ));
        }
        let quality = args.quality.unwrap_or(JPEG_QUALITY);
        let pictures = match &args.out {
            Some(folder) => Some(folder.clone()),
            None if documents || args.raw.is_some() || args.contact_sheet.is_some() => None,
            None => Some(PathBuf::from(".")),
        };
        let folder = pictures
            .map(|path| Folder::new(path, args, quality))
            .transpose()?;
        let raw = args.raw.as_deref().map(Raw::new).transpose()?;
        let sheet = args.contact_sheet.as_deref().zip(sheet_format);
        let sheet =
            sheet.map(|(path, format)| Sheet::new(path, format, quality, args.columns, args.tile_width));
        Ok(Self { folder, raw, sheet })
    }

    /// Says how many frames will come.
    pub(crate) fn expect(&mut self, count: usize) -> Result<(), Failure> {
        self.sheet.as_mut().map_or(Ok(()), |sheet| sheet.expect(count))
    }

    /// Writes the `number`-th frame of the selection; gives the file that holds it.
    pub(crate) fn write(
        &mut self,
        frame: &RgbFrame,
        number: usize,
        pts: i64,
    ) -> Result<Option<PathBuf>, Failure> {
        if let Some(sheet) = &mut self.sheet {
            sheet.add(frame, number)?;
        }
        if let Some(raw) = &mut self.raw {
            raw.write(&frame.data)?;
        }
        let file = self
            .folder
            .as_mut()
            .map(|folder| folder.write(frame, number, pts));
        Ok(file
            .transpose()?
            .or_else(|| self.raw.as_ref().and_then(Raw::path)))
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        if let Some(raw) = self.raw {
            raw.finish()?;
        }
        self.sheet.map_or(Ok(()), Sheet::finish)
    }
}

/// One file per frame.
struct Folder {
    path: PathBuf,
    names: NamePattern,
    used: HashSet<String>,
    format: PictureFormat,
    quality: u8,
}

impl Folder {
    fn new(path: PathBuf, args: &OutputArgs, quality: u8) -> Result<Self, Failure> {
        fs::create_dir_all(&path).map_err(|error| unwritable(&path, &error))?;
        Ok(Self {
            path,
            names: args.name.clone(),
            used: HashSet::new(),
            format: args.format,
            quality,
        })
    }

    fn write(&mut self, frame: &RgbFrame, number: usize, pts: i64) -> Result<PathBuf, Failure> {
        let name = self.names.name(frame, number, pts);
        let path = self.path.join(format!("{name}.{}", self.format.extension()));
        if !self.used.insert(name) {
            let message = format!(
                "two frames would be written to {}: add {{index}} to --name",
                path.display()
            );
            return Err(Failure::usage(message));
        }
        picture::write(
            &path,
            &frame.data,
            (frame.width, frame.height),
            self.format,
            self.quality,
        )?;
        Ok(path)
    }
}

/// rgb24 back to back.
enum Raw {
    /// Standard output, or a pipe or device, which no finished file may replace.
    Stream(BufWriter<Box<dyn Write>>),
    File(Pending, PathBuf),
}

impl Raw {
    fn new(path: &Path) -> Result<Self, Failure> {
        let stream: Box<dyn Write> = if path == Path::new("-") {
            Box::new(std::io::stdout())
        } else if fs::metadata(path).is_ok_and(|facts| !facts.is_file() && !facts.is_dir()) {
            let opened = fs::OpenOptions::new().write(true).open(path);
            Box::new(opened.map_err(|error| unwritable(path, &error))?)
        } else {
            return Ok(Self::File(Pending::new(path)?, path.to_owned()));
        };
        Ok(Self::Stream(BufWriter::with_capacity(1 << 20, stream)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stream(to) => to.write_all(bytes).map_err(Failure::from_stdout),
            Self::File(to, _) => to.write(bytes),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Stream(_) => None,
            Self::File(_, path) => Some(path.clone()),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stream(mut to) => to.flush().map_err(Failure::from_stdout),
            Self::File(to, _) => to.finish(),
        }
    }
}
