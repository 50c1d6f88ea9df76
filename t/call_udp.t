#!/usr/bin/perl

# Tests for registration, messages and calls over UDP towards the core: by
# which transport what goes, what is sent again when nothing comes back, and
# what becomes of that which comes twice.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(102);

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, workers => 3,
    grace => '1s'));

my $core = ImsCore->new(port(8060), udp => 1);

$t->run();

###############################################################################

my $edge = $core->datagrams(port(8070));
my $c = ImsClient->new(user => 'alice');

# a REGISTER whose first copy is lost

$c->send($c->{ua}->register());
my %done;
my ($m, $link) = next_request();
is($m->{method}, 'REGISTER', 'REGISTER');
is(ref $link, 'ImsCore::Datagrams', 'by UDP');
like(sip_header($m, 'Via'),
    qr{^SIP/2.0/UDP 127.0.0.1:${\port(8070)};rport;branch=z9hG4bK}, 'Via');
like(sip_header($m, 'Path'), qr/\@127.0.0.1:\d+;transport=udp;lr;ob>$/,
    'Path');

my $since = time();
my ($again) = next_request();
is($again->{text}, $m->{text}, 'lost: the same again');
cmp_ok(time() - $since, '<', 3, 'soon');
($again) = next_request();
is($again->{text}, $m->{text}, 'and again');

reply($link, $m, 200, 'OK', extra => [
    'Service-Route: ' . ImsCall::service_route() ]) for 1 .. 2;
is($c->answer()->{status}, 200, 'registered');
($c->{path}) = sip_header($m, 'Path') =~ /<(sip:[^>]+)>/;
ok(quiet(1.2), 'and no more');
is($c->answer(0.1), undef, 'the second 200 is nothing to the client');

# a client's request: lost twice, answered twice

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
    body => 'hello'));
($m, $link) = next_request();
is($m->{method}, 'MESSAGE', 'MESSAGE by UDP');
is(ref $link, 'ImsCore::Datagrams', 'as the Service-Route has no transport');
is((next_request())[0]{text}, $m->{text}, "again $_") for 1 .. 2;
reply($link, $m, 200, 'OK') for 1 .. 3;
is($c->answer()->{status}, 200, 'answered');
is($c->answer(0.2), undef, 'once');
ok(quiet(2.2), 'and not sent any more');

# one that is under way somewhere is asked for less often (T2)

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
($m, $link) = next_request();
$core->reply($link, $m, 100, 'Trying');
next_request();
ok(quiet(2), 'less often after a 100');
reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

# a call: INVITE until something comes (Timer A)

invite('call', 'bob');
($m, $link) = next_request();
is(ref $link, 'ImsCore::Datagrams', 'INVITE by UDP');
like(sip_header($m, 'Record-Route'), qr/;transport=udp;lr>$/, 'Record-Route');
is($c->answer()->{status}, 100, 'the edge says 100 at once');
is((next_request())[0]{text}, $m->{text}, "INVITE again $_") for 1 .. 2;
reply($link, $m, 100, 'Trying');
ok(quiet(2.5), 'a 100 ends that');

my @rr = ('Record-Route: ' . ImsCall::far_route() . ', '
    . sip_header($m, 'Record-Route'), 'Contact: <sip:bob@192.0.2.1>');
reply($link, $m, 200, 'OK', to_tag => 'far', extra => \@rr) for 1 .. 2;
my $ok = $c->answer();
is($ok->{status}, 200, 'answered');
is($c->answer()->{status}, 200, 'a 2xx is end to end: each passes');
like(sip_header($ok, 'Record-Route'), qr/;transport=udp;lr>/, 'by UDP');

my @routes = reverse ImsCall::values_of($ok, 'Record-Route');
my %dialog = (to => 'sip:bob@ims.example', ruri => 'sip:bob@192.0.2.1',
    from_tag => 'me', to_tag => 'far', call_id => 'call',
    extra => [ map { "Route: $_" } @routes ]);
$c->send($c->{ua}->request('ACK', %dialog, cseq => $c->{ua}{cseq}));
my ($ack, $ack_link) = next_request();
is($ack->{method}, 'ACK', 'ACK');
is(ref $ack_link, 'ImsCore::Datagrams', 'by UDP');
ok(quiet(1), 'once');

$c->send($c->{ua}->request('BYE', %dialog));
($m, $link) = next_request();
is($m->{method}, 'BYE', 'BYE');
is((next_request())[0]{text}, $m->{text}, 'BYE again');
reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

# a refusal gets an ACK each time that it comes (Timer D)

invite('refused');
($m, $link) = next_request();
$c->answer();
reply($link, $m, 486, 'Busy Here', to_tag => 'far');
is($c->answer()->{status}, 486, 'refused');
is((next_request())[0]{method}, 'ACK', 'ACK of the refusal');
reply($link, $m, 486, 'Busy Here', to_tag => 'far');
($ack) = next_request();
is($ack->{method}, 'ACK', 'and again');
is((sip_headers($ack, 'Via'))[0], (sip_headers($m, 'Via'))[0], 'as its INVITE');
is($c->answer(0.3), undef, 'the client hears it once');

# CANCEL is sent until it is answered

my $invite = invite('cancelled');
($m, $link) = next_request();
$c->answer();
reply($link, $m, 180, 'Ringing', to_tag => 'far');
is($c->answer()->{status}, 180, 'ringing');
$c->send(cancel_of($invite));
is($c->answer()->{status}, 200, 'CANCEL answered by the edge');
my ($cancel) = next_request();
is($cancel->{method}, 'CANCEL', 'CANCEL');
is((sip_headers($cancel, 'Via'))[0], (sip_headers($m, 'Via'))[0],
    'as its INVITE');
is((next_request())[0]{text}, $cancel->{text}, 'lost: again');
reply($link, $cancel, 200, 'OK');
ok(quiet(2.3), 'answered: no more');
reply($link, $m, 487, 'Request Terminated', to_tag => 'far');
is((next_request())[0]{method}, 'ACK', 'ACK of the 487');
is($c->answer()->{status}, 487, 'cancelled');

# what is too large goes by TCP (RFC 3261 18.1.1)

my $large = sub {
    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
        body => 'x' x $_[0]));
    return next_request();
};

($m, $link) = $large->(400);
is(ref $link, 'ImsCore::Datagrams', 'small enough');
cmp_ok(length $m->{text}, '<=', 1300, 'that is 1300 bytes');
reply($link, $m, 200, 'OK');
$c->answer();
($m, $link) = $large->(1200);
isnt(ref $link, 'ImsCore::Datagrams', 'too large for a datagram');
like(sip_header($m, 'Via'), qr{^SIP/2.0/TCP 127.0.0.1:\d+;branch=}, 'Via');
reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

invite('large', 'bob', body => 'v=0' . 'x' x 2000);
($m, $link) = next_request();
$c->answer();
isnt(ref $link, 'ImsCore::Datagrams', 'a large INVITE');
like(sip_header($m, 'Record-Route'), qr/;transport=udp;lr>$/,
    'the route stays');
reply($link, $m, 486, 'Busy Here', to_tag => 'far');
my ($ack_of_large, $way) = next_request();
is($ack_of_large->{method}, 'ACK', 'its ACK');
is($way, $link, 'by the same way');
is($c->answer()->{status}, 486, 'refused');

# Service-Route says otherwise

for (['tcp', ''], ['udp', 'ImsCore::Datagrams'], ['TLS', '']) {
    my ($transport, $ref) = @$_;
    registered(';transport=' . $transport);
    ($m, $link) = $large->(1);
    is(ref $link eq 'ImsCore::Datagrams' ? ref $link : '', $ref,
        "Service-Route with transport=$transport");
    reply($link, $m, 200, 'OK');
    $c->answer();
}
registered('');

# a core that takes no TCP gets a large request as a datagram all the same

$core->deaf();
$core->close($_) for $core->links();
sleep 0.2;
($m, $link) = $large->(3000);
is(ref $link, 'ImsCore::Datagrams', 'no TCP there: by UDP');
like(sip_header($m, 'Via'), qr{^SIP/2.0/UDP 127.0.0.1:\d+;rport;branch=},
    'with a Via that says so');
is(length $m->{body}, 3000, 'whole');
reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

###############################################################################

# requests of the core: by UDP, from any worker, doubled and lost

my $text = from_core('MESSAGE', body => 'to you');
$core->send($edge, $text) for 1 .. 3;
$m = $c->answer();
is($m->{body}, 'to you', 'MESSAGE of the core');
is($c->answer(0.3), undef, 'once, though it came three times');
$c->send(sip_reply($m, 200, 'OK', to_tag => 'me'));
my ($r) = next_request();
is($r->{status}, 200, 'answered');
like((sip_headers($r, 'Via'))[0], qr/;received=127.0.0.1\b/, 'received');
is(scalar(sip_headers($r, 'Via')), 2, 'and the Via below');
$core->send($edge, $text);
is((next_request())[0]{text}, $r->{text}, 'lost: the answer again');
$core->send($edge, $text =~ s/Content-Length: \d+\r\n//r
    =~ s/branch=z9hG4bK/branch=z9hG4bKnolength/r);
$m = $c->answer();
is($m->{body}, 'to you', 'without Content-Length');
$c->send(sip_reply($m, 200, 'OK', to_tag => 'me'));
is((next_request())[0]{status}, 200, 'answered');

# a refused INVITE: until the ACK comes (Timer G)

$text = from_core('INVITE', body => "v=0\r\n", branch => 'z9hG4bKinv');
$core->send($edge, $text);
is((next_request())[0]{status}, 100, 'Trying');
my $in = $c->answer();
like(sip_header($in, 'Record-Route'), qr/;transport=udp;lr>$/, 'Record-Route');
$core->send($edge, $text);
is((next_request())[0]{status}, 100, 'again: Trying');
$c->send(sip_reply($in, 180, 'Ringing', to_tag => 'me', extra => [
    'Record-Route: ' . sip_header($in, 'Record-Route') ]));
is((next_request())[0]{status}, 180, 'ringing');
$core->send($edge, $text);
is((next_request())[0]{status}, 180, 'again: ringing');
is($c->answer(0.2), undef, 'one INVITE for the client');
$c->send(sip_reply($in, 486, 'Busy Here', to_tag => 'me'));
($r) = next_request();
is($r->{status}, 486, 'busy');
is($c->answer()->{method}, 'ACK', 'ACK of the edge');
is((next_request())[0]{text}, $r->{text}, "busy again $_") for 1 .. 2;
$core->send($edge, from_core('ACK', branch => 'z9hG4bKinv',
    to_tag => 'me'));
ok(quiet(4.5), 'until the ACK');
$done{$r->{text}} = 1;
$core->send($edge, $text);
ok(quiet(0.5), 'and that is that');

# CANCEL, twice

$text = from_core('INVITE', branch => 'z9hG4bKgone', call_id => 'gone');
$core->send($edge, $text);
next_request();
$in = $c->answer();
$c->send(sip_reply($in, 180, 'Ringing', to_tag => 'me', extra => [
    'Record-Route: ' . sip_header($in, 'Record-Route') ]));
next_request();
$core->send($edge, from_core('CANCEL', branch => 'z9hG4bKgone',
    call_id => 'gone')) for 1 .. 2;
is((next_request())[0]{status}, 200, "CANCEL answered $_") for 1 .. 2;
is($c->answer()->{method}, 'CANCEL', 'CANCEL for the client');
is($c->answer(0.2), undef, 'once');
$c->send(sip_reply($in, 487, 'Request Terminated', to_tag => 'me'));
($r) = next_request();
is($r->{status}, 487, 'terminated');
$done{$r->{text}} = 1;
$core->send($edge, from_core('ACK', branch => 'z9hG4bKgone',
    call_id => 'gone', to_tag => 'me'));
is($c->answer()->{method}, 'ACK', 'ACK of the edge');

# the caller is gone: an answer is hung up, and the BYE is sent until answered

invite('late');
($m, $link) = next_request();
reply($link, $m, 180, 'Ringing', to_tag => 'far');
$c->answer() for 1 .. 2;
$c->{ws}->drop();
is((next_request())[0]{method}, 'CANCEL', 'the caller is gone: CANCEL');
@rr = ('Record-Route: ' . ImsCall::far_route() . ', '
    . sip_header($m, 'Record-Route'), 'Contact: <sip:bob@192.0.2.1>');
reply($link, $m, 200, 'OK', to_tag => 'far', extra => \@rr);
my %seen;
my ($bye, $dereg);
for (1 .. 8) {
    ($r, $link) = next_request();
    $seen{$r->{method}}++;
    $bye //= $r if $r->{method} eq 'BYE';
    last if $bye && $r->{method} eq 'BYE' && $seen{BYE} == 2;
}
is($seen{ACK}, 1, 'ACK of the late answer');
is($r->{text}, $bye->{text}, 'BYE, and again');
reply($link, $bye, 200, 'OK');

# the edge's de-REGISTER, lost once

until ($dereg && $seen{REGISTER} == 2) {
    ($r, $link) = next_request();
    last if $r->{method} eq 'none';
    next if $r->{method} ne 'REGISTER';
    $seen{REGISTER}++;
    $dereg //= $r;
}
like(sip_header($dereg, 'Contact'), qr/;expires=0/, 'de-REGISTER by UDP');
is($r->{text}, $dereg->{text}, 'and again');
reply($link, $dereg, 200, 'OK');
ok(ims_wait(5, sub { ims_status()->{counters}{deregister_done} == 1 }),
    'done with');

my $counters = ims_status()->{counters};
cmp_ok($counters->{udp_resent}, '>=', 12, 'resent, counted');
cmp_ok($counters->{udp_repeated}, '>=', 5, 'repeated, counted');
cmp_ok($counters->{udp_large}, '>=', 3, 'large ones, counted');
is($counters->{core_timeout}, 0, 'nobody waited in vain');
is($counters->{response_lost}, 0, 'no response was lost');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub next_request {
    my $end = time() + 6;

    while (time() < $end) {
        my @got = $core->request($end - time()) or last;
        return @got unless $done{$got[0]{text}};
    }

    return ({ method => 'none', status => 'none', text => '', body => '',
              lines => [] }, undef);
}


# what has an answer is not waited for any more: a copy may be under way yet

sub reply {
    my ($link, $m, @answer) = @_;

    $done{$m->{text}} = 1;
    $core->reply($link, $m, @answer);
}


# nothing comes but what was on its way

sub quiet {
    my ($seconds) = @_;

    for (1 .. 20) {
        $core->request(0.1) or last;
    }

    return $core->silent($seconds);
}


sub registered {
    my ($transport) = @_;

    $c->send($c->{ua}->register());
    ($m, $link) = next_request();
    reply($link, $m, 200, 'OK', extra => [ 'Service-Route: '
        . ImsCall::service_route() =~ s/;lr/$transport;lr/r ]);
    die "not registered\n" unless $c->answer()->{status} == 200;
}


sub invite {
    my ($call_id, $to, %o) = @_;

    my $text = $c->{ua}->request('INVITE', to => 'sip:bob@ims.example',
        from_tag => 'me', call_id => $call_id, type => 'application/sdp',
        body => "v=0\r\n", extra => [
            'Contact: <' . $c->{ua}->contact() . ';ob>' ], %o);
    $c->send($text);

    return $text;
}


sub cancel_of {
    my ($text) = @_;

    $text =~ s/^INVITE/CANCEL/;
    $text =~ s/^(CSeq: \d+ )INVITE/$1CANCEL/m;
    $text =~ s/^(?:Contact|Content-Type): .*\r\n//mg;
    $text =~ s/^Content-Length: .*?\z/Content-Length: 0\r\n\r\n/ms;

    return $text;
}


sub from_core {
    my ($method, %o) = @_;

    my $branch = $o{branch} // 'z9hG4bKmessage';

    return ImsCall::core_request($c, $method, from_tag => 'far',
        call_id => 'from-core', via => [
            'SIP/2.0/UDP 127.0.0.1:' . port(8060) . ";branch=$branch",
            'SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKfar' ], %o);
}

###############################################################################
