//! One file per API: its request, its response and their structs (`message` has the legend).

use crate::protocol::api::ApiKey;
use crate::protocol::codec::Wire;
use crate::protocol::message::Message;
use crate::protocol::reader::{DecodeError, Reader};
use crate::protocol::shape::Shape;
use crate::protocol::writer::Writer;

macro_rules! messages {
    ($(
        $module:ident: $api:ident,
        $request:ident $(<$request_life:lifetime>)?,
        $response:ident $(<$response_life:lifetime>)?;
    )+) => {
        $( pub mod $module; )+

        /// Any request that we serve or send.
        #[derive(Clone, PartialEq, Debug)]
        pub enum AnyRequest<'a> {
            $( $api($module::$request $(<$request_life>)?), )+
        }

        /// Any response that we send or get.
        #[derive(Clone, PartialEq, Debug)]
        pub enum AnyResponse<'a> {
            $( $api($module::$response $(<$response_life>)?), )+
        }

        impl<'a> AnyRequest<'a> {
            /// Reads the body of a request; `reader` stands behind its header.
            pub fn decode(api: ApiKey, version: i16, reader: &mut Reader<'a>) -> Result<AnyRequest<'a>, DecodeError> {
                Ok(match api { $( ApiKey::$api => AnyRequest::$api(Message::decode(reader, version)?), )+ })
            }

            pub fn encode_to(&self, writer: &mut Writer<'_>, version: i16) {
                match self { $( AnyRequest::$api(request) => request.encode_to(writer, version), )+ }
            }

            /// What requests of this API are made of.
            pub fn shape(api: ApiKey) -> Shape {
                match api { $( ApiKey::$api => <$module::$request as Wire<'_>>::SHAPE, )+ }
            }

            pub fn default_of(api: ApiKey) -> AnyRequest<'static> {
                match api { $( ApiKey::$api => AnyRequest::$api(Default::default()), )+ }
            }
        }

        impl<'a> AnyResponse<'a> {
            /// Reads the body of a response; `reader` stands behind its header.
            pub fn decode(api: ApiKey, version: i16, reader: &mut Reader<'a>) -> Result<AnyResponse<'a>, DecodeError> {
                Ok(match api { $( ApiKey::$api => AnyResponse::$api(Message::decode(reader, version)?), )+ })
            }

            pub fn encode_to(&self, writer: &mut Writer<'_>, version: i16) {
                match self { $( AnyResponse::$api(response) => response.encode_to(writer, version), )+ }
            }

            /// What responses of this API are made of.
            pub fn shape(api: ApiKey) -> Shape {
                match api { $( ApiKey::$api => <$module::$response as Wire<'_>>::SHAPE, )+ }
            }

            pub fn default_of(api: ApiKey) -> AnyResponse<'static> {
                match api { $( ApiKey::$api => AnyResponse::$api(Default::default()), )+ }
            }
        }
    };
}

messages! {
    produce: Produce, ProduceRequest<'a>, ProduceResponse<'a>;
    fetch: Fetch, FetchRequest<'a>, FetchResponse<'a>;
    list_offsets: ListOffsets, ListOffsetsRequest<'a>, ListOffsetsResponse<'a>;
    metadata: Metadata, MetadataRequest<'a>, MetadataResponse<'a>;
    offset_commit: OffsetCommit, OffsetCommitRequest<'a>, OffsetCommitResponse<'a>;
    offset_fetch: OffsetFetch, OffsetFetchRequest<'a>, OffsetFetchResponse<'a>;
    find_coordinator: FindCoordinator, FindCoordinatorRequest<'a>, FindCoordinatorResponse<'a>;
    join_group: JoinGroup, JoinGroupRequest<'a>, JoinGroupResponse<'a>;
    heartbeat: Heartbeat, HeartbeatRequest<'a>, HeartbeatResponse;
    leave_group: LeaveGroup, LeaveGroupRequest<'a>, LeaveGroupResponse<'a>;
    sync_group: SyncGroup, SyncGroupRequest<'a>, SyncGroupResponse<'a>;
    describe_groups: DescribeGroups, DescribeGroupsRequest<'a>, DescribeGroupsResponse<'a>;
    list_groups: ListGroups, ListGroupsRequest<'a>, ListGroupsResponse<'a>;
    api_versions: ApiVersions, ApiVersionsRequest<'a>, ApiVersionsResponse<'a>;
    create_topics: CreateTopics, CreateTopicsRequest<'a>, CreateTopicsResponse<'a>;
    delete_topics: DeleteTopics, DeleteTopicsRequest<'a>, DeleteTopicsResponse<'a>;
    delete_records: DeleteRecords, DeleteRecordsRequest<'a>, DeleteRecordsResponse<'a>;
    init_producer_id: InitProducerId, InitProducerIdRequest<'a>, InitProducerIdResponse;
    offset_for_leader_epoch: OffsetForLeaderEpoch, OffsetForLeaderEpochRequest<'a>, OffsetForLeaderEpochResponse<'a>;
    describe_acls: DescribeAcls, DescribeAclsRequest<'a>, DescribeAclsResponse<'a>;
    create_acls: CreateAcls, CreateAclsRequest<'a>, CreateAclsResponse<'a>;
    delete_acls: DeleteAcls, DeleteAclsRequest<'a>, DeleteAclsResponse<'a>;
    describe_configs: DescribeConfigs, DescribeConfigsRequest<'a>, DescribeConfigsResponse<'a>;
    alter_configs: AlterConfigs, AlterConfigsRequest<'a>, AlterConfigsResponse<'a>;
    describe_log_dirs: DescribeLogDirs, DescribeLogDirsRequest<'a>, DescribeLogDirsResponse<'a>;
    create_partitions: CreatePartitions, CreatePartitionsRequest<'a>, CreatePartitionsResponse<'a>;
    delete_groups: DeleteGroups, DeleteGroupsRequest<'a>, DeleteGroupsResponse<'a>;
    incremental_alter_configs: IncrementalAlterConfigs,
        IncrementalAlterConfigsRequest<'a>, IncrementalAlterConfigsResponse<'a>;
    offset_delete: OffsetDelete, OffsetDeleteRequest<'a>, OffsetDeleteResponse<'a>;
    describe_cluster: DescribeCluster, DescribeClusterRequest, DescribeClusterResponse<'a>;
    describe_producers: DescribeProducers, DescribeProducersRequest<'a>, DescribeProducersResponse<'a>;
    sasl_handshake: SaslHandshake, SaslHandshakeRequest<'a>, SaslHandshakeResponse<'a>;
    sasl_authenticate: SaslAuthenticate, SaslAuthenticateRequest<'a>, SaslAuthenticateResponse<'a>;
    list_config_resources: ListConfigResources, ListConfigResourcesRequest<'a>, ListConfigResourcesResponse<'a>;
    describe_topic_partitions: DescribeTopicPartitions,
        DescribeTopicPartitionsRequest<'a>, DescribeTopicPartitionsResponse<'a>;
}
