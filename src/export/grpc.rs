//! OTLP over gRPC.

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_types::StatusExt as _;

use super::queue::{Delivered, Failure};
use super::settings::ExportSettings;

/// A response larger than this is no OTLP.
const RESPONSE_MAX: usize = 4 << 20;

/// A client that connects when it must.
#[derive(Debug)]
pub(super) struct Client {
    service: TraceServiceClient<Channel>,
    headers: MetadataMap,
}

impl Client {
    /// Must run inside the runtime that will use it.
    pub(super) fn new(settings: &ExportSettings) -> Result<Self> {
        let mut endpoint = Endpoint::from_shared(settings.endpoint.clone())
            .with_context(|| format!("the OTLP endpoint `{}`", settings.endpoint))?
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout);
        if settings.endpoint.starts_with("https://") {
            let mut tls = ClientTlsConfig::new();
            tls = match &settings.ca_file {
                Some(path) => tls.ca_certificate(Certificate::from_pem(super::http::read(path)?)),
                None => tls.with_native_roots(),
            };
            if let (Some(certificate), Some(key)) = (&settings.client_certificate, &settings.client_key) {
                tls = tls
                    .identity(Identity::from_pem(super::http::read(certificate)?, super::http::read(key)?));
            }
            endpoint = endpoint.tls_config(tls).context("TLS of the OTLP endpoint")?;
        }
        let mut service =
            TraceServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(RESPONSE_MAX);
        if settings.gzip {
            service = service.send_compressed(CompressionEncoding::Gzip);
        }
        let mut headers = MetadataMap::new();
        for (name, value) in &settings.headers {
            let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes())
                .with_context(|| format!("the OTLP header `{name}`"))?;
            let value = MetadataValue::try_from(value).with_context(|| format!("the value of `{name}`"))?;
            headers.insert(key, value);
        }
        Ok(Self { service, headers })
    }

    pub(super) async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<Delivered, Failure> {
        let mut request = tonic::Request::new(request);
        *request.metadata_mut() = self.headers.clone();
        match self.service.export(request).await {
            Ok(response) => {
                let rejected = response.into_inner().partial_success;
                Ok(Delivered {
                    rejected: rejected.as_ref().map_or(0, |p| u64::try_from(p.rejected_spans).unwrap_or(0)),
                    message: rejected.map(|p| p.error_message).unwrap_or_default(),
                })
            }
            Err(status) => Err(failure(&status)),
        }
    }
}

/// By the OTLP specification: these codes may succeed later, the one for a lack of resources only if the
/// collector says when. A broken connection comes as a code of our own side, with its cause.
fn failure(status: &tonic::Status) -> Failure {
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let retry = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => after.is_some(),
        _ => std::error::Error::source(status).is_some(),
    };
    Failure { retry, after, message: format!("{:?}: {}", status.code(), status.message()) }
}
