"""A gRPC client made from server reflection alone, as any newcomer could write it: no generated code, no .proto files."""

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Client:
    """Calls methods of a reflected service by name with plain dicts or messages."""

    def __init__(self, address: str):
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 64 << 20)])
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def message(self, name: str):
        """The message class `name`, for example `reelsight.v1.AskRequest`."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, service: str, name: str):
        """A callable for one RPC; streaming follows from the descriptor."""
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(name)
        request = message_factory.GetMessageClass(descriptor.input_type)
        response = message_factory.GetMessageClass(descriptor.output_type)
        kind = ("stream" if descriptor.client_streaming else "unary") + "_" + (
            "stream" if descriptor.server_streaming else "unary")
        make = getattr(self.channel, kind)
        return make(f"/{service}/{name}", request_serializer=request.SerializeToString,
                    response_deserializer=response.FromString)
