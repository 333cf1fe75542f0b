//! Calls rig.Echo with tonic; see ../README.md: `tonic-client http://HOST:PORT COUNT LEVEL`.
use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

fn body(number: usize) -> Vec<u8> {
    let size = if number % 50 == 7 { 70_000 } else { number * 7 % 600 };
    vec![number as u8; size]
}

async fn one(client: &mut Grpc<Channel>, number: usize) -> Result<(), String> {
    client.ready().await.map_err(|error| error.to_string())?;
    let text = |error: Status| error.to_string();
    if number % 10 == 9 {
        let sent = [body(number), body(number + 1), body(number + 2)];
        let mut request = Request::new(tokio_stream::iter(sent.clone()));
        request.metadata_mut().insert("x-id", number.into());
        let answer = client.streaming(request, PathAndQuery::from_static("/rig.Echo/Stream"), Raw).await.map_err(text)?;
        let mut messages = answer.into_inner();
        for one in sent {
            if messages.message().await.map_err(text)? != Some(one) {
                return Err("a message of the stream differs".into());
            }
        }
        return match messages.message().await.map_err(text)? {
            None => Ok(()),
            Some(_) => Err("a message too many".into()),
        };
    }
    let mut request = Request::new(body(number));
    request.metadata_mut().insert("x-id", number.into());
    let answer = client.unary(request, PathAndQuery::from_static("/rig.Echo/Call"), Raw).await.map_err(text)?;
    if answer.into_inner() == body(number) {
        Ok(())
    } else {
        Err("other bytes came back".into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (count, level): (usize, usize) = (arguments[2].parse().expect("COUNT"), arguments[3].parse().expect("LEVEL"));
    let channel = Endpoint::from_shared(arguments[1].clone()).expect("address").connect().await.expect("connect");
    let workers: Vec<_> = (0..level)
        .map(|worker| {
            let mut client = Grpc::new(channel.clone());
            tokio::spawn(async move {
                let mut errors = Vec::new();
                for number in (worker..count).step_by(level) {
                    if let Err(error) = one(&mut client, number).await {
                        errors.push(format!("{number}: {error}"));
                    }
                }
                errors
            })
        })
        .collect();
    let mut errors = Vec::new();
    for worker in workers {
        errors.extend(worker.await.expect("worker"));
    }
    if !errors.is_empty() {
        println!("{} errors: {:?}", errors.len(), &errors[..errors.len().min(3)]);
        std::process::exit(1);
    }
}
