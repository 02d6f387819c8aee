//! What was typed under `file:`, `stdio:` and `generator:`, made complete.

use std::path::PathBuf;
use std::sync::Arc;

use portcullis_config::{Code, Diagnostic, FileEnd, Format as TypedFormat, Generator as TypedGenerator, Location};
use portcullis_connector_api::{AckMode, Confirm, ConnectorError, Sink, Source};
use portcullis_connector_local::{
    FileSource, FileSourceSettings, Format, GeneratedValue, Generator, GeneratorSettings, LineSink, LineSinkSettings,
    Pattern, Remember, StreamSource, StreamSourceSettings,
};

use crate::pipeline::SourceIdentity;

/// A source that needs no broker.
#[derive(Clone, Debug)]
pub enum LocalSource {
    /// A file.
    File(FileSourceSettings),
    /// Standard input.
    Stdin(Format),
    /// Made-up messages.
    Generator(GeneratorSettings),
}

/// A sink that needs no broker.
#[derive(Clone, Debug)]
pub enum LocalSink {
    /// A file.
    File(PathBuf, Format),
    /// Standard output.
    Stdout(Format),
}

pub(super) fn source_file(file: &FileEnd) -> LocalSource {
    LocalSource::File(file_settings(file))
}

pub(super) fn stdin(format: TypedFormat) -> LocalSource {
    LocalSource::Stdin(local(format))
}

pub(super) fn generated(at: &Location, typed: &TypedGenerator) -> Result<LocalSource, Diagnostic> {
    generator(at, typed).map(LocalSource::Generator)
}

pub(super) fn sink_file(file: &FileEnd) -> LocalSink {
    LocalSink::File(file.path.value.clone(), local(file.format.value))
}

pub(super) fn stdout(format: TypedFormat) -> LocalSink {
    LocalSink::Stdout(local(format))
}

impl LocalSource {
    pub(super) fn ack_mode(&self) -> AckMode {
        match self {
            Self::File(_) | Self::Generator(_) => AckMode::Cumulative,
            Self::Stdin(_) => AckMode::None,
        }
    }

    pub(super) fn identity(&self) -> SourceIdentity {
        match self {
            Self::File(settings) => {
                let path = std::path::absolute(&settings.path);
                let path = path.as_ref().unwrap_or(&settings.path);
                SourceIdentity::of_file(&path.display().to_string())
            }
            Self::Stdin(_) | Self::Generator(_) => SourceIdentity::of_this_run(),
        }
    }

    pub(super) fn open(&self) -> Result<Box<dyn Source>, ConnectorError> {
        Ok(match self {
            Self::File(settings) => Box::new(FileSource::open(settings.clone())?),
            Self::Stdin(format) => Box::new(StreamSource::stdin(StreamSourceSettings {
                format: *format,
                ..StreamSourceSettings::default()
            })?),
            Self::Generator(settings) => Box::new(Generator::new(settings.clone())?),
        })
    }
}

impl LocalSink {
    pub(super) fn open(&self, confirm: Arc<dyn Confirm>) -> Result<Arc<dyn Sink>, ConnectorError> {
        let settings = |format: Format| LineSinkSettings { format, ..LineSinkSettings::default() };
        Ok(match self {
            Self::File(path, format) => Arc::new(LineSink::file(path, settings(*format), confirm)?),
            Self::Stdout(format) => Arc::new(LineSink::stdout(settings(*format), confirm)?),
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path, _) => path.display().to_string(),
            Self::Stdout(_) => "standard output".to_owned(),
        }
    }
}

fn file_settings(file: &FileEnd) -> FileSourceSettings {
    let mut settings = FileSourceSettings::new(file.path.value.clone());
    settings.format = local(file.format.value);
    settings.remember = match &file.position {
        Some(position) => Remember::In(position.value.clone()),
        None => Remember::Not,
    };
    settings
}

fn local(format: TypedFormat) -> Format {
    match format {
        TypedFormat::JsonLines => Format::JsonLines,
        TypedFormat::Lines => Format::Lines,
    }
}

fn generator(at: &Location, typed: &TypedGenerator) -> Result<GeneratorSettings, Diagnostic> {
    let pattern = |text: &str, at: &Location| {
        Pattern::parse(text).map_err(|error| at.diagnostic(Code::ValueInvalid, error.to_string()))
    };
    let value = match (&typed.value, &typed.value_bytes) {
        (Some(text), None) => GeneratedValue::Pattern(pattern(text.as_str(), &text.at)?),
        (None, Some(bytes)) => GeneratedValue::Bytes(usize::try_from(bytes.value).unwrap_or(usize::MAX)),
        _ => return Err(at.diagnostic(Code::KeyConflict, "a generator has either `value` or `value_bytes`")),
    };
    let mut headers = Vec::new();
    for (name, text) in &typed.headers {
        let Some(text) = text else {
            let message = format!("header `{name}` is null, which a generator cannot make");
            return Err(at.diagnostic(Code::ValueInvalid, message));
        };
        headers.push((name.clone(), pattern(text, at)?));
    }
    Ok(GeneratorSettings {
        count: typed.count.as_ref().map(|count| count.value),
        rate: typed.rate.as_ref().map(|rate| f64::from(rate.value.count) / rate.value.per.as_secs_f64()),
        seed: typed.seed.value,
        key: typed.key.as_ref().map(|text| pattern(text.as_str(), &text.at)).transpose()?,
        value,
        headers,
        channel: typed.channel.as_str().into(),
    })
}
