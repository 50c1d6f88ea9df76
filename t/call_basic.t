#!/usr/bin/perl

# Tests for a call and a message in both directions, with three workers and a
# core that is looked at line by line.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(43);

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $route = '<sip:orig@127.0.0.1:' . port(8060) . ';lr>';

# registered, with Service-Route

my $c = ImsClient->new(user => 'alice');
my $path;
{
    $c->send($c->{ua}->register());
    my ($m, $link) = $core->request();
    $path = sip_header($m, 'Path');
    $core->reply($link, $m, 200, 'OK',
                 extra => ["Service-Route: $route",
                           "P-Associated-URI: <$c->{id}{impu}>"]);
    is($c->answer()->{status}, 200, 'registered');
}

# a message to the core

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
    body => 'hello', extra => [
        'P-Asserted-Identity: <sip:evil@ims.example>',
        'Route: <sip:127.0.0.1:22;lr>',
        'Authorization: Bearer secret' ]));

my ($m, $link) = $core->request();
is($m->{method}, 'MESSAGE', 'message forwarded');
is(sip_header($m, 'Route'), $route, 'by the Service-Route');
is(join('|', sip_headers($m, 'P-Asserted-Identity')), "<$c->{id}{impu}>",
    'our identity alone');
unlike($m->{text}, qr/secret|evil|:22/, 'nothing of the client to be trusted');
is(scalar(sip_headers($m, 'Via')), 2, 'two Via');
like($m->{text}, qr/\r\n\r\nhello$/, 'body');

$core->reply($link, $m, 200, 'OK');
my $a = $c->answer();
is($a->{status}, 200, 'answered');
is(scalar(sip_headers($a, 'Via')), 1, 'one Via');

# a call to the core: its Record-Route is ours, then vouches for the dialog

$c->send($c->{ua}->request('INVITE', to => 'sip:bob@ims.example',
    from_tag => 'alice', call_id => 'call-1', body => "v=0\r\n",
    type => 'application/sdp',
    extra => [ 'Contact: <' . $c->{ua}->contact() . ';ob>' ]));

($m, $link) = $core->request();
is($m->{method}, 'INVITE', 'INVITE forwarded');
is($c->answer()->{status}, 100, '100 at once');
my $rr = sip_header($m, 'Record-Route');
like($rr, qr/^<sip:[\w-]+\@127.0.0.1:\d+;transport=tcp;lr>$/, 'our route');

my $far = '<sip:scscf@127.0.0.1:' . port(8060) . ';lr>';
my $ringing = sub {
    my ($status, $reason, $tag) = @_;
    my $text = sip_reply($m, $status, $reason, to_tag => $tag,
        extra => [ "Record-Route: $far, $rr",
                   'Contact: <sip:bob@192.0.2.1>' ]);
    $core->send($link, $text);
};

$ringing->(180, 'Ringing', 'bob');
$a = $c->answer();
is($a->{status}, 180, 'ringing');
my @rr = split /,\s*/, join ',', sip_headers($a, 'Record-Route');
is($rr[0], $far, 'the far route');
isnt($rr[1], $rr, 'ours is another one towards the client');

$ringing->(200, 'OK', 'bob');
$a = $c->answer();
is($a->{status}, 200, 'answered');

my $dialog = sub {
    my ($method, %o) = @_;
    return $c->{ua}->request($method, to => 'sip:bob@ims.example',
        ruri => 'sip:bob@192.0.2.1', from_tag => 'alice', to_tag => 'bob',
        call_id => 'call-1', extra => [ "Route: $rr[1]", "Route: $rr[0]" ],
        %o);
};

$c->send($dialog->('ACK', cseq => $c->{ua}{cseq}));
($m, $link) = $core->request();
is($m->{method}, 'ACK', 'ACK passed');
is(join('|', sip_headers($m, 'Route')), $far, 'by the far route');
is(sip_header($m, 'P-Asserted-Identity'), undef, 'no identity in ACK');

# attacks on the dialog

for (['made-up To tag', to_tag => 'mallory'],
     ['no Route', extra => []],
     ['Route to elsewhere', extra => [ "Route: $rr[1]",
                                       'Route: <sip:127.0.0.1:22;lr>' ]],
     ['the token of the core', extra => [ "Route: $rr", "Route: $far" ]],
     ['Path token', extra => [ 'Route: ' . $path =~ s/;ob//r ]])
{
    my ($name, @over) = @$_;
    $c->send($dialog->('INFO', @over));
    is($c->answer()->{status}, 403, "$name 403");
}

ok($core->silent(), 'nothing of it reached the core');

$c->send($dialog->('BYE'));
($m, $link) = $core->request();
is($m->{method}, 'BYE', 'BYE passed');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'BYE answered');

# terminating: on connections to ims_listen, whichever worker takes them

my ($user) = $path =~ /<(sip:[^>]+)>/;

sub from_core {
    my ($method, %o) = @_;
    my $branch = $o{branch} // 'z9hG4bK' . int rand 1e12;
    my $body = $o{body} // '';
    return join "\r\n", "$method " . $c->{ua}->contact() . ' SIP/2.0',
        'Via: SIP/2.0/TCP 127.0.0.1:' . port(8060) . ";branch=$branch",
        'Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKfar',
        'Max-Forwards: 60', 'Route: ' . ($o{route} // "<$user>"),
        (map { "Record-Route: $_" } @{$o{rr} // []}),
        'From: <sip:bob@ims.example>;tag=' . ($o{from_tag} // 'b1'),
        "To: <$c->{id}{impu}>" . ($o{to_tag} ? ";tag=$o{to_tag}" : ''),
        'Call-ID: ' . ($o{call_id} // 'term-' . int rand 1e9),
        'CSeq: ' . ($o{cseq} // 1) . " $method",
        'P-Asserted-Identity: <sip:bob@ims.example>',
        'P-Charging-Vector: icid-value="x"',
        'Content-Length: ' . length $body, '', $body;
}

my $delivered = 0;

for my $n (1 .. 6) {
    my $in = $core->connect(port(8070));
    $core->send($in, from_core('MESSAGE', body => "m$n"));
    $m = $c->answer();
    $c->send(sip_reply($m, 200, 'OK', to_tag => 'a'));
    my ($r) = $core->request();
    $delivered++ if $m->{method} eq 'MESSAGE' && $r->{status} == 200
        && sip_headers($r, 'Via') == 2
        && sip_header($r, 'P-Asserted-Identity') eq "<$c->{id}{impu}>";
    unlike($m->{text}, qr/P-Charging|\nRoute/, 'not for the client') if $n == 1;
    $core->close($in);
}

is($delivered, 6, 'messages to the client by any worker, and their answers');

# a call from the core

my $in = $core->connect(port(8070));
$core->send($in, from_core('INVITE', call_id => 'in-1', rr => [$far],
                           branch => 'z9hG4bKinv'));
my ($r) = $core->request();
is($r->{status}, 100, '100 to the core');
$m = $c->answer();
is($m->{method}, 'INVITE', 'INVITE to the client');
@rr = sip_headers($m, 'Record-Route');
is(scalar @rr, 2, 'our Record-Route above the far one');

# responses that were not asked for

$c->send(sip_reply($m, 200, 'OK', to_tag => 'a') =~ s/call_|z9hG4bKfar/z9hG4bKx/r);
$c->send(sip_reply($m, 200, 'OK', to_tag => 'a',
                   extra => [ "Record-Route: $rr[0], <sip:evil;lr>" ]));
ok($core->silent(), 'changed Via or Record-Route: dropped');

$c->send(sip_reply($m, 180, 'Ringing', to_tag => 'a',
                   extra => [ "Record-Route: $rr[0], $rr[1]",
                              'P-Asserted-Identity: <sip:evil@x>' ]));
($r) = $core->request();
is($r->{status}, 180, '180 to the core');
is(join('|', sip_headers($r, 'P-Asserted-Identity')), "<$c->{id}{impu}>",
    'with our identity');

# CANCEL

$core->send($in, from_core('CANCEL', call_id => 'in-1', branch => 'z9hG4bKinv'));
($r) = $core->request();
is($r->{status}, 200, 'CANCEL answered');
my $cancel = $c->answer();
is($cancel->{method}, 'CANCEL', 'CANCEL to the client');
is(sip_header($cancel, 'Via'), sip_header($m, 'Via'), 'with the INVITE\'s Via')
    or diag $cancel->{text};
$c->send(sip_reply($cancel, 200, 'OK', to_tag => 'a'));
$c->send(sip_reply($m, 487, 'Request Terminated', to_tag => 'a'));
($r) = $core->request();
is($r->{status}, 487, '487 to the core');
is($c->answer()->{method}, 'ACK', 'ACK of it by the edge');

# tokens

$core->send($in, from_core('MESSAGE', route => '<sip:AbcAAQ@127.0.0.1;lr>'));
($r) = $core->request();
is($r->{status}, 404, 'a route that is not ours');

my $forged = $user =~ s/^(sip:.{20})(.)/$1 . ($2 eq 'A' ? 'B' : 'A')/er;
$core->send($in, from_core('MESSAGE', route => "<$forged>"));
($r) = $core->request();
is($r->{status}, 403, 'a forged token');

$c->{ws}->drop();
ims_wait(5, sub { ims_status()->{counters}{flow_lost} });
$core->send($in, from_core('MESSAGE'));
($r) = $core->request();
is($r->{status}, 430, 'a flow without connection');

###############################################################################
