#!/usr/bin/perl

# Tests for what a client must not get done with calls: each attack by name.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::UNIX;
use Socket qw/ SOCK_DGRAM /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(82);

ims_keys($t);
ims_pool($t, size => 60);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));

my $alice = ImsClient->new(user => 'alice');
my $mallory = ImsClient->new(user => 'mallory');
ImsCall::registered($_, $core) for $alice, $mallory;

# responses. Each attacker has a flow of its own: the third bad response is
# its last

for my $case (
    ['second Via added', sub { [@{$_[0]}, 'SIP/2.0/TCP 127.0.0.1:22'] }],
    ['a Via of the core removed', sub { [@{$_[0]}[0, 1]] }],
    ['a Via of the core changed',
        sub { [map { s/192\.0\.2\.9/192.0.2.66/r } @{$_[0]}] }],
    ['only ours', sub { [$_[0][0]] }],
    ['their order changed', sub { [@{$_[0]}[0, 2, 1]] }],
    ['another branch of ours', sub {
        my @v = @{$_[0]};
        substr($v[0], -1) = substr($v[0], -1) eq 'a' ? 'b' : 'a';
        return \@v;
    }],
) {
    my ($name, $change) = @$case;
    my $c = client();
    my $d = ImsCall->called($c, $core, $in, until => 'invite');
    my @via = sip_headers($d->{invite}, 'Via');
    my $text = $d->reply_text(200, 'OK');

    $text =~ s/^Via: .*\r\n//mg;
    $text =~ s/\r\n/join "\r\n", '', (map { "Via: $_" } @{$change->(\@via)}), ''/e;

    refused_response($c, $text, $name);
    is($d->reply(486, 'Busy')->{status}, 486, "$name: the true answer passes");
    $c->{ws}->close();
}

for my $case (
    ['changed Record-Route', sub { [$_[0][0], '<sip:evil@192.0.2.66;lr>'] }],
    ['Record-Route added', sub { [@{$_[0]}, '<sip:evil@192.0.2.66;lr>'] }],
    ['Record-Route in front', sub { ['<sip:evil@192.0.2.66;lr>', @{$_[0]}] }],
    ['Record-Route removed', sub { [$_[0][0]] }],
    ['Record-Route without ours', sub { [$_[0][1]] }],
    ['Record-Route turned round', sub { [reverse @{$_[0]}] }],
) {
    my ($name, $change) = @$case;
    my $c = client();
    my $d = ImsCall->called($c, $core, $in, until => 'invite');

    refused_response($c,
        $d->reply_text(200, 'OK', rr => $change->($d->{routes})), $name);
    $c->{ws}->drop();
    my ($r) = $core->request();
    is($r->{status}, 430, "$name: the core is not left waiting");
}

{
    my $c = client();
    my $d = ImsCall->called($c, $core, $in, until => 'invite');
    my $ok = $d->reply_text(200, 'OK');

    refused_response($c, $ok =~ s/^CSeq: 1 /CSeq: 2 /mr, 'another CSeq');
    refused_response($c, $ok =~ s/^(Call-ID: )/$1x/mr, 'another Call-ID');
    $c->send($ok =~ s/^(From: .*tag=)/$1x/mr);
    is(($c->{ws}->closed(5))[0], 1008, 'the third bad response is the last');
    my ($r) = $core->request();
    is($r->{status}, 430, 'and its caller is told');
}

# an unasked 200, of somebody else's call

{
    my $d = ImsCall->called($alice, $core, $in, until => 'invite');
    refused_response($mallory, $d->reply_text(200, 'OK'),
        'answer to the call of another flow');
    is($d->reply(486, 'Busy Here')->{status}, 486, 'which goes on');
    is($alice->answer()->{method}, 'ACK', 'to its end');

    my $m = sip_parse($alice->{ua}->request('OPTIONS'));
    refused_response($alice, sip_reply($m, 200, 'OK'), 'unasked 200');
}

# identity and trust in responses

{
    my $d = ImsCall->called($alice, $core, $in, until => 'invite');
    my @trust = ('P-Asserted-Identity: <sip:marker@ims.example>',
        'P-Asserted-Identity: <tel:+49marker>',
        'P-Charging-Vector: icid-value="marker"',
        'p-access-network-info: X;marker;network-provided',
        'Path: <sip:marker@127.0.0.1;lr>',
        'Service-Route: <sip:marker@127.0.0.1;lr>',
        'Route: <sip:marker@127.0.0.1;lr>',
        'History-Info: <sip:marker@x>;index=1', 'P-Served-User: <sip:marker>');

    for my $m ($d->reply(180, 'Ringing', extra => \@trust),
               $d->reply(200, 'OK', extra => \@trust))
    {
        unlike($m->{text}, qr/marker/, "nothing of trust in $m->{status}");
        is(join('|', sip_headers($m, 'P-Asserted-Identity')),
            "<$alice->{id}{impu}>", "our identity in $m->{status}");
    }

    $core->send($in, $d->from_core('ACK', cseq => 1));
    $alice->answer();

    # in ACK, CANCEL and requests of the dialog; a Route is another matter

    @trust = grep { !/^Route/ } @trust;

    $alice->send($d->from_client('BYE', extra => \@trust));
    my ($m, $link) = $core->request();
    unlike($m->{text}, qr/marker/, 'nothing of trust in BYE');
    is(join('|', sip_headers($m, 'P-Asserted-Identity')),
        "<$alice->{id}{impu}>", 'our identity in BYE');
    $core->reply($link, $m, 200, 'OK');
    $alice->answer();

    $d = ImsCall->calls($alice, $core);
    $alice->send($d->from_client('ACK', cseq => 1, extra => \@trust));
    ($m) = $core->request();
    is($m->{method}, 'ACK', 'ACK passes');
    unlike($m->{text}, qr/marker|P-Asserted/, 'nothing of trust in ACK');

    $d = ImsCall->calls($alice, $core, until => 'ringing');
    my $cancel = $d->{sent} =~ s/^INVITE/CANCEL/r;
    $cancel =~ s/^CSeq: 1 INVITE/CSeq: 1 CANCEL/m;
    $cancel =~ s/^(?:Contact|Content-Type): .*\r\n//mg;
    $cancel =~ s/^Content-Length: .*?\z/join "\r\n", @trust,
        'Content-Length: 0', '', ''/mse;
    $alice->send($cancel);
    is($alice->answer()->{status}, 200, 'CANCEL answered');
    ($m) = $core->request();
    is($m->{method}, 'CANCEL', 'CANCEL passes');
    unlike($m->{text}, qr/marker|P-Asserted/, 'nothing of trust in CANCEL');
    $core->reply($d->{link}, $d->{invite}, 487, 'Terminated');
    is($alice->answer()->{status}, 487, 'and its end');
    $core->request();
}

# ways around the Service-Route

{
    my $d = ImsCall->calls($alice, $core);
    my ($our, $far) = @{$d->{routes}};
    my $other = ImsCall->calls($alice, $core);
    my $evil = '<sip:127.0.0.1:22;lr>';

    my %way = (
        'made-up To tag' => [to_tag => 'mallory', routes => $d->{routes}],
        'no Route' => [routes => []],
        'Route to elsewhere' => [routes => [$our, $evil]],
        'Route to elsewhere behind the far one'
            => [routes => [$our, $far, $evil]],
        'the far Route left out' => [routes => [$our]],
        'Route without ours' => [routes => [$far]],
        'Route before ours' => [routes => [$evil, $our, $far]],
        'the value that the core has' => [routes => [$d->{core_route}, $far]],
        'Path token as Route' => [routes => ["<$alice->{path}>", $far]],
        'value of another dialog' => [routes => $other->{routes}],
        'another Call-ID' => [call_id => 'mallory'],
        'another From tag' => [from_tag => 'mallory'],
        'malformed Route' => [routes => [$our, 'sip:x']],
    );

    for (sort keys %way) {
        $alice->send($d->from_client('INFO', @{$way{$_}}));
        my $a = $alice->answer();
        ok($a->{status} == 403 || $a->{status} == 400, "$_: $a->{status}");
    }

    # the dialog of another flow

    $mallory->send(join "\r\n", map {
        s/\Q$alice->{id}{impu}\E/$mallory->{id}{impu}/r
    } split /\r\n/, $d->from_client('BYE'), -1);
    is($mallory->answer()->{status}, 403, 'dialog of another flow');

    # such an ACK is dropped in silence

    $alice->send($d->from_client('ACK', cseq => 1, routes => [$our, $evil]));
    ok($core->silent(), 'nothing of all that reached the core');

    $alice->send($d->from_client('INFO'));
    my ($m, $link) = $core->request();
    is($m->{method}, 'INFO', 'the true one does');
    $core->reply($link, $m, 200, 'OK');
    is($alice->answer()->{status}, 200, 'and is answered');

    # a Record-Route value as the Path of an initial request

    for my $route ($d->{core_route}, $our) {
        $core->send($in, ImsCall::core_request($alice, 'MESSAGE',
            route => $route, call_id => $d->{call_id}));
        my ($r) = $core->request();
        is($r->{status}, 403, 'preloaded Record-Route token as Path');
    }

    # initial requests of a client with a Route

    $alice->send($alice->{ua}->request('MESSAGE',
        to => 'sip:bob@ims.example', extra => ["Route: $our", "Route: $evil",
            "Record-Route: $evil", "Path: $evil"]));
    ($m, $link) = $core->request();
    is(join('|', sip_headers($m, 'Route')), ImsCall::service_route(),
        'initial: by the Service-Route alone');
    unlike($m->{text}, qr/:22|\nPath|\nRecord-Route/, 'and nothing else kept');
    $core->reply($link, $m, 200, 'OK');
    $alice->answer();
}

# forged and altered tokens: each byte of each kind

{
    my $d = ImsCall->called($alice, $core, $in);
    my ($token) = $d->{core_route} =~ /sip:([^@]+)@/;
    my ($path) = $alice->{path} =~ /sip:([^@]+)@/;

    # what comes behind the first 176 bits is for the client's side

    for (['Path token', $path, 'MESSAGE'], ['dialog token', $token, 'INFO']) {
        my ($name, $text, $method) = @$_;
        my %got;
        for my $i (0 .. 28) {
            my $forged = $text;
            substr($forged, $i, 1) = substr($forged, $i, 1) eq 'A' ? 'B' : 'A';
            my $route = "<sip:$forged\@127.0.0.1:" . port(8070) . ';lr>';
            $core->send($in, $method eq 'INFO'
                ? $d->from_core('INFO', route => $route)
                : ImsCall::core_request($alice, 'MESSAGE', route => $route));
            my ($r) = $core->request(2);
            $got{$r ? $r->{status} // $r->{method} : 'silence'}++;
        }
        ok(!grep({ !/^40[34]$/ } keys %got), "$name: each byte altered")
            or diag explain \%got;
        cmp_ok($got{403} // 0, '>', 12, "$name: forged is forged");
    }

    my ($ours, @far) = @{$d->{routes}};
    my %got;
    for my $i (0 .. length($token) - 1) {
        my $forged = $token;
        substr($forged, $i, 1) = substr($forged, $i, 1) eq 'A' ? 'B' : 'A';
        $alice->send($d->from_client('INFO', routes =>
            [$ours =~ s/\Q$token\E/$forged/r, @far]));
        $got{$alice->answer()->{status}}++;
    }
    is_deeply(\%got, { 403 => length $token },
        'dialog token of the client: each byte altered');
    ok($core->silent(0.1), 'none of that reached the core');

    for my $text (substr($path, 1), "${path}A", substr($path, 0, -1),
                  $path x 2, 'A' x length $path, '%41' . substr($path, 1))
    {
        $core->send($in, ImsCall::core_request($alice, 'MESSAGE',
            route => "<sip:$text\@127.0.0.1:" . port(8070) . ';lr>'));
        my ($r) = $core->request(2);
        like($r->{status}, qr/^40[034]$/, 'not a token: ' . length $text);
    }

    ok(!defined $alice->{ws}->recv(0.3), 'nothing reached the client');

    $core->send($in, $d->from_core('INFO'));
    is($alice->answer()->{method}, 'INFO', 'the true one does');
}

# a message to a worker's socket, as anybody of nginx's user could send it

{
    my $text = ImsCall::core_request($alice, 'MESSAGE');
    my $before = ims_status()->{counters};

    for my $name (glob $t->testdir() . '/state/*.sock') {
        my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $name);
        $s->send($text);
        $s->send(pack('CCn', 1, 1, 1) . "\0" x 76 . $text . "\0" x 32);
        $s->send(pack('CCn', 1, 2, 1) . "\0" x 76 . $text . "\0" x 32);
    }

    ok(ims_wait(3, sub {
        ims_status()->{counters}{deliver_bad} - $before->{deliver_bad} == 9
    }), 'datagram without MAC');
    ok(!defined $alice->{ws}->recv(0.2) && $core->silent(0.1), 'has no effect');
}

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

my $users;

sub client {
    my $c = ImsClient->new(user => 'attacker' . ++$users);
    ImsCall::registered($c, $core);

    return $c;
}


sub refused_response {
    my ($c, $text, $name) = @_;

    my $before = ims_status()->{counters}{response_from_client};

    $c->send($text);

    ok(ims_wait(2, sub {
        ims_status()->{counters}{response_from_client} > $before
    }) && $core->silent(0.1), $name);
}

###############################################################################
