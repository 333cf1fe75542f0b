//! OTLP over gRPC.

use anyhow::{Context, Result};
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;
use tower::{Service as _, service_fn};

use super::queue::{Delivered, Failure};
use super::settings::ExportSettings;
use super::tls;

/// A response larger than this is no OTLP.
const RESPONSE_MAX: usize = 4 << 20;

/// A client that connects when it must.
#[derive(Debug)]
pub(super) struct Client {
    service: TraceServiceClient<Channel>,
    headers: MetadataMap,
}

/// Connects when it must. TLS is of our own connector, which tonic is to take for a plain one.
fn channel(settings: &ExportSettings) -> Result<Channel> {
    let origin: Uri = settings.endpoint.parse()?;
    let limits = |endpoint: Endpoint| endpoint.timeout(settings.timeout).connect_timeout(settings.timeout);
    if origin.scheme() != Some(&Scheme::HTTPS) {
        return Ok(limits(Endpoint::from(origin)).connect_lazy());
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(settings.timeout));
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(tls::config(settings)?)
        .https_only()
        .enable_http2()
        .wrap_connector(tcp);
    let (target, within) = (origin.clone(), settings.timeout);
    let connect = service_fn(move |_plain: Uri| {
        let connected = tls.clone().call(target.clone());
        async move { tokio::time::timeout(within, connected).await? }
    });
    let mut plain = origin.clone().into_parts();
    plain.scheme = Some(Scheme::HTTP);
    let endpoint = Endpoint::from(Uri::from_parts(plain)?).origin(origin);
    Ok(limits(endpoint).connect_with_connector_lazy(connect))
}

impl Client {
    /// Must run inside the runtime that will use it.
    pub(super) fn new(settings: &ExportSettings) -> Result<Self> {
        let channel =
            channel(settings).with_context(|| format!("the OTLP endpoint `{}`", settings.endpoint))?;
        let mut service = TraceServiceClient::new(channel).max_decoding_message_size(RESPONSE_MAX);
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
