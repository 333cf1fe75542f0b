%% A process per connection, which receives by itself: the runtime's few threads carry all of them.
-module(hop).
-export([main/0]).

main() ->
    Port = list_to_integer(os:getenv("PORT")),
    Service = list_to_binary(os:getenv("SERVICE")),
    Next = next(os:getenv("NEXT", "")),
    {ok, Listener} = gen_tcp:listen(Port, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {packet, http_bin}, {reuseaddr, true}, {backlog, 256}, {nodelay, true}]),
    spawn(fun() -> background(Next, Service) end),
    accept(Listener, Service, Next).

next("") -> none;
next("http://127.0.0.1:" ++ Port) -> list_to_integer(Port).

accept(Listener, Service, Next) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> serve(Socket, Service, Next) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener, Service, Next).

serve(Socket, Service, Next) ->
    case head(Socket, undefined, 0) of
        {{http_request, _, {abs_path, Path}, _}, _} ->
            {Status, Body} = answer(Path, Service, Next),
            ok = gen_tcp:send(Socket, [<<"HTTP/1.1 ">>, Status, <<"\r\nContent-Length: ">>,
                                       integer_to_binary(iolist_size(Body)), <<"\r\n\r\n">>, Body]),
            serve(Socket, Service, Next);
        closed -> gen_tcp:close(Socket)
    end.

answer(<<"/bg/", _/binary>> = Path, Service, _) -> {<<"200 OK">>, [Service, $ , Path]};
answer(Path, Service, none) -> {<<"200 OK">>, [Service, $ , Path]};
answer(Path, Service, Next) ->
    try {<<"200 OK">>, [Service, $ , call(Next, Path)]}
    catch _:E -> {<<"502 Bad Gateway">>, io_lib:format("~p", [E])}
    end.

%% The head of a message; its first line and the length of its body.
head(Socket, First, Length) ->
    case gen_tcp:recv(Socket, 0, 20000) of
        {ok, http_eoh} -> {First, Length};
        {ok, {http_header, _, 'Content-Length', _, Value}} -> head(Socket, First, binary_to_integer(Value));
        {ok, {http_header, _, _, _, _}} -> head(Socket, First, Length);
        {ok, Line} -> head(Socket, Line, Length);
        {error, _} -> closed
    end.

call(Next, Path) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Next, [binary, {active, false}, {packet, http_bin}, {nodelay, true}], 20000),
    ok = gen_tcp:send(Socket, [<<"GET ">>, Path, <<" HTTP/1.1\r\nHost: next\r\n\r\n">>]),
    {{http_response, _, 200, _}, Length} = head(Socket, undefined, 0),
    ok = inet:setopts(Socket, [{packet, raw}]),
    {ok, Body} = gen_tcp:recv(Socket, Length, 20000),
    gen_tcp:close(Socket),
    Body.

background(none, _) -> ok;
background(Next, Service) ->
    Hz = list_to_integer(os:getenv("BG_HZ", "0")),
    Hz > 0 andalso background(Next, Service, Hz, 0, Hz * list_to_integer(os:getenv("BG_SECONDS", "600")), erlang:monotonic_time(microsecond)).

background(_, _, _, Limit, Limit, _) -> ok;
background(Next, Service, Hz, N, Limit, Start) ->
    timer:sleep(max(0, (Start + N * 1000000 div Hz - erlang:monotonic_time(microsecond)) div 1000)),
    try call(Next, ["/bg/", Service, $/, os:getpid(), $-, integer_to_list(N)])
    catch _:E -> io:format("background: ~p~n", [E])
    end,
    background(Next, Service, Hz, N + 1, Limit, Start).
