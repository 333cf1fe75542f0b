//! Files as users of OBI and Beyla have them.

use spanwire::config::{IntSet, Severity};

use super::{assert_one, loaded, texts};

#[test]
fn an_obi_file_loads_without_a_word() {
    let yaml = "
open_port: 443
discovery:
  poll_interval: 5s
  min_process_age: 5s
  instrument:
    - open_ports: 8080,8443
      name: shop
      namespace: 1
    - exe_path: '*/{nginx,python3*}'
      cmd_args: '*cart*'
      languages: '{python,go}'
      containers_only: false
    - open_ports: [3000, 5000-5999, '7000,7001']
      target_pids: [1, 2]
    - exe_path: ''
  exclude_instrument:
    - target_pids: [1, 2]
  default_exclude_instrument: []
ebpf:
  context_propagation: 'disabled'
  track_request_headers: yes
  max_transaction_time: 1m30s
otel_traces_export:
  endpoint: ${COLLECTOR:-http://localhost:4318}/v1/traces
  sampler:
    name: parentbased_traceidratio
    arg: 0.25
attributes:
  kubernetes:
    enable: false
trace_printer: json
log_level: DEBUG
";
    let all = loaded(yaml, &[], &[]).unwrap();
    assert_eq!(texts(&all), Vec::<&str>::new());
    let config = &all.config;
    let entries = &config.discovery.instrument;
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0].namespace.as_deref(), Some("1"));
    assert!(entries[1].languages.as_ref().unwrap().matches("go"));
    assert_eq!(entries[2].open_ports.to_string(), "3000,5000-5999,7000,7001");
    assert!(entries[3].exe_path.as_ref().unwrap().matches("/anything"));
    assert!(config.discovery.default_exclude_instrument.0.is_empty());
    assert!(config.ebpf.track_request_headers);
    assert_eq!(config.ebpf.max_transaction_time.0.as_secs(), 90);
    let (sampling, warning) = config.sampling();
    assert_eq!((sampling.ratio, sampling.parent_based, warning), (0.25, true, None));
    assert_eq!(config.export().unwrap().unwrap().endpoint, "http://localhost:4318/v1/traces");
    // The global selectors make one more entry.
    assert_eq!(config.selectors().len(), 5);
    config.validate(false).unwrap();
}

#[test]
fn a_beyla_file_is_read_with_its_old_names() {
    let yaml = "
executable_name: 'checkout|cart'
discovery:
  services:
    - exe_path: (python|node)
      open_ports: 8080
    - name: api
      exe_path: ^/srv/api$
  exclude_services:
    - exe_path: postgres
ebpf:
  enable_context_propagation: true
trace_printer: text
";
    let all = loaded(yaml, &[], &[]).unwrap();
    assert_one(&all, &["`discovery.services`", "`instrument`"]);
    assert_one(&all, &["`discovery.exclude_services`", "`exclude_instrument`"]);
    assert_one(&all, &["`executable_name`", "`auto_target_exe`"]);
    assert_eq!(all.warnings.len(), 3, "{:?}", texts(&all));
    let discovery = &all.config.discovery;
    let globs: Vec<&str> =
        discovery.instrument.iter().map(|entry| entry.exe_path.as_ref().unwrap().as_str()).collect();
    assert_eq!(globs, ["*{python,node}*", "/srv/api"]);
    assert!(discovery.exclude_instrument[0].exe_path.as_ref().unwrap().matches("/usr/bin/postgres"));
    assert_eq!(all.config.auto_target_exe.as_ref().unwrap().as_str(), "{*checkout*,*cart*}");
    assert!(all.config.wants_headers());
    all.config.validate(false).unwrap();

    let both = "discovery:\n  services: [{exe_path: a+}]\n  instrument: [{open_ports: 1}]\n";
    let all = loaded(both, &[], &[]).unwrap();
    assert_one(&all, &["`discovery.services`", "not read"]);
    assert_eq!(all.config.discovery.instrument.len(), 1);
}

#[test]
fn unknown_keys_name_the_nearest_and_obis_are_told_apart() {
    let yaml = "
opne_port: 1
ebpf:
  max_transaction_tim: 5s
  disable_blackbox_cp: true
  wakeup_len: 10
max_transaction_time: 5s
otel_traces_exporter: {protocol: grpc, endpoint: x}
routes:
  unmatched: path
  patterns:
    - /a/{id}
nodejs: {enabled: false}
javaagent:
network: {enable: true}
discovery:
  instrument:
    - open_port: 80
      exe_path: /a
      exports: [traces]
      sampler: {name: always_on, arg: 1}
";
    let all = loaded(yaml, &[], &[]).unwrap();
    assert_one(&all, &["`opne_port` (file:", "`open_port`"]);
    assert_one(&all, &["`ebpf.max_transaction_tim` (", "`ebpf.max_transaction_time`"]);
    assert_one(&all, &["`ebpf.disable_blackbox_cp` (", "`ebpf.disable_black_box_cp`"]);
    assert_one(&all, &["`max_transaction_time` (", "`ebpf.max_transaction_time`"]);
    assert_one(&all, &["`otel_traces_exporter` ("]);
    assert_one(&all, &["`ebpf.wakeup_len`", "does nothing here yet"]);
    assert_one(&all, &["`routes`", "does nothing here yet"]);
    assert_one(&all, &["`network`", "does nothing here yet"]);
    assert_one(&all, &["discovery.instrument.0.open_port`", "`open_ports`"]);
    assert_one(&all, &["discovery.instrument.0.exports`", "does nothing here yet"]);
    assert_one(&all, &["discovery.instrument.0.sampler`", "does nothing here yet"]);
    assert_eq!(all.warnings.len(), 11, "{:#?}", texts(&all));
    let infos = all.warnings.iter().filter(|warning| warning.severity == Severity::Info).count();
    assert_eq!(infos, 5);
    assert_eq!(all.config.discovery.instrument[0].sampler.as_ref().unwrap().arg, "1");
}

#[test]
fn pods_and_containers_are_selected_by_what_they_are_called() {
    let yaml = "
attributes:
  kubernetes:
    enable: autodetect
    resource_labels:
      service.name: [shop.example/name]
      team: [shop.example/team]
discovery:
  instrument:
    - k8s_namespace: '{shop,cart}'
      k8s_pod_labels: {app: 'web*', tier: 1}
      k8s_pod_annotations: {trace: true}
    - container_name: shop-*
    - containers_only: 'true'
  exclude_instrument:
    - k8s_deployment_name: db
";
    let all = loaded(yaml, &[("BEYLA_KUBE_CLUSTER_NAME", "eu")], &[]).unwrap();
    assert_eq!(texts(&all), Vec::<&str>::new());
    let entries = &all.config.discovery.instrument;
    let pod = &entries[0].pod;
    assert!(pod.k8s_namespace.as_ref().unwrap().matches("cart"));
    assert!(pod.k8s_pod_labels["app"].matches("web-1") && pod.k8s_pod_labels["tier"].matches("1"));
    assert!(pod.k8s_pod_annotations["trace"].matches("true"));
    assert!(entries[1].container_name.as_ref().unwrap().matches("shop-1") && entries[2].containers_only);
    assert!(entries.iter().all(|entry| !entry.is_empty()));
    let kubernetes = &all.config.attributes.kubernetes;
    assert_eq!(kubernetes.resource_labels["service.name"], ["shop.example/name"]);
    assert_eq!(kubernetes.resource_labels["team"], ["shop.example/team"]);
    assert_eq!(kubernetes.resource_labels["service.version"], ["app.kubernetes.io/version"]);
    assert_eq!(kubernetes.cluster_name.as_deref(), Some("eu"));
}

#[test]
fn an_old_list_has_expressions_for_pods_too() {
    let yaml = "
discovery:
  services:
    - k8s_namespace: shop|cart
      k8s_pod_labels: {app: ^web}
";
    let all = loaded(yaml, &[], &[]).unwrap();
    let pod = &all.config.discovery.instrument[0].pod;
    assert!(pod.k8s_namespace.as_ref().unwrap().matches("the-shop"));
    assert!(pod.k8s_pod_labels["app"].matches("web-1") && !pod.k8s_pod_labels["app"].matches("a-web"));
}

#[test]
fn what_is_no_mapping_is_refused() {
    for yaml in [
        "discovery: {instrument: [{k8s_pod_labels: app}]}",
        "attributes: {kubernetes: {resource_labels: [a]}}",
        "attributes: {kubernetes: {resource_labels: {a: b}}}",
        "attributes: {kubernetes: {enable: maybe}}",
    ] {
        let text = loaded(yaml, &[], &[]).unwrap_err().to_string();
        assert!(text.contains("k8s_pod_labels") || text.contains("attributes.kubernetes"), "{text}");
    }
}

#[test]
fn the_environment_stands_in_the_file() {
    let yaml = "
open_port: ${PORT}
service_name: \"${NAME:-shop}\"
service_namespace: $(NS)
log_level: ${env:LEVEL}
otel_traces_export:
  headers: token=$${NOT}$$a$
  endpoint: ${GONE}
";
    let env = [("PORT", "80-81"), ("NS", "123"), ("LEVEL", "warn"), ("NAME", "")];
    let all = loaded(yaml, &env, &[]).unwrap();
    assert_eq!(all.config.open_port, "80-81".parse::<IntSet>().unwrap());
    assert_eq!(all.config.service_name.as_deref(), Some("shop"));
    assert_eq!(all.config.service_namespace.as_deref(), Some("123"));
    assert_eq!(all.config.log_level.as_str(), "warn");
    assert_eq!(all.config.otel_traces_export.headers.as_deref(), Some("token=${NOT}$$a$"));
    assert_eq!(all.config.otel_traces_export.endpoint, None);
    assert_one(&all, &["`${GONE}`", "not set"]);
    assert_eq!(all.warnings.len(), 1);
}

#[test]
fn what_is_no_yaml_is_named_with_its_place() {
    let cases = ["a: [\n", "open_port: 1\nopen_port: 2\n", "- 1\n", "just text\n", "a: *b\n", "\u{0}"];
    for yaml in cases {
        let text = loaded(yaml, &[], &[]).unwrap_err().to_string();
        assert!(text.contains("is not valid YAML") && text.contains("the configuration file /"), "{text}");
    }
    let broken = "open_port: 1\na: [${TOKEN} }\n";
    let text = loaded(broken, &[("TOKEN", "s3cret")], &[]).unwrap_err().to_string();
    assert!(text.contains("line 2") && !text.contains("s3cret"), "{text}");
}
