#!/usr/bin/perl

# Tests for calls of a client that loses its WebSocket and comes back with the
# same lease and device: its dialogs go on.

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

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(80);

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3,
    grace => '10m'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my ($m, $link, $r, $a);

# in-dialog requests are held until the client is back; with three workers
# it comes back to another one two times in three

for my $n (1 .. 4) {
    my $c = ImsClient->new(user => "held$n");
    ImsCall::registered($c, $core);
    my $path = $c->{path};
    my @d = (ImsCall->calls($c, $core), ImsCall->called($c, $core, $in));

    lose($c);

    for my $d (@d) {
        $core->send($in, $d->from_core('INFO', body => "$d->{side}"));
    }
    ok($core->silent(0.3), "$n: held while there is no client");

    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    ($r) = $core->request();
    is($r->{status}, 430, "$n: 430 meanwhile for an initial request");

    $c->connect();
    $c->send($c->{ua}->register());
    ($m, $link) = $core->request();
    like(sip_header($m, 'Path'), qr/\Q$path\E/, "$n: the same Path");

    # served before the core has answered the REGISTER

    for my $d (@d) {
        $m = $c->answer();
        is($m ? $m->{method} . " $m->{body}" : 'nothing',
            "INFO $d->{side}", "$n: $d->{side}: delivered after it is back");
        $c->send(sip_reply($m, 200, 'OK'));
        ($r) = $core->request();
        is($r->{status}, 200, "$n: $d->{side}: and answered");
    }

    ok(!defined $c->{ws}->recv(0.1), "$n: once");

    # the client holds the call, on the new connection

    $c->send($d[0]->from_client('INVITE', type => 'application/sdp',
        body => "v=0\r\na=sendonly\r\n"));
    ($m, $link) = $core->request();
    is("$m->{method} $m->{body}", "INVITE v=0\r\na=sendonly\r\n",
        "$n: re-INVITE to hold it");
    $c->answer();
    $core->reply($link, $m, 200, 'OK');
    is($c->answer()->{status}, 200, "$n: answered");
    $c->send($d[0]->from_client('ACK', cseq => $d[0]{cseq}));
    is(($core->request())[0]->{method}, 'ACK', "$n: ACK of it");

    # both sides end the calls

    $c->send($d[0]->from_client('BYE'));
    ($m, $link) = $core->request();
    is($m->{method}, 'BYE', "$n: BYE of the client");
    $core->reply($link, $m, 200, 'OK');
    is($c->answer()->{status}, 200, "$n: answered");

    $core->send($in, $d[1]->from_core('BYE'));
    $m = $c->answer();
    is($m->{method}, 'BYE', "$n: BYE of the core");
    $c->send(sip_reply($m, 200, 'OK'));
    ($r) = $core->request();
    is($r->{status}, 200, "$n: answered");
}

cmp_ok(ims_status()->{counters}{held}, '>=', 8, 'counted');

# a client that comes back while its old WebSocket is open yet

{
    my $c = ImsClient->new(user => 'moved');
    ImsCall::registered($c, $core);
    my $d = ImsCall->calls($c, $core);
    my $old = $c->{ws};

    $c->connect();
    ImsCall::registered($c, $core);
    is(($old->closed(3))[0], 1008, 'the old WebSocket is closed');

    $core->send($in, $d->from_core('INFO'));
    $m = $c->answer();
    is($m->{method}, 'INFO', 'the dialog is at the new one');
    $c->send(sip_reply($m, 200, 'OK'));
    is(($core->request())[0]->{status}, 200, 'and answered there');

    $old->send($d->from_client('BYE'));
    ok($core->silent(0.2), 'the old one has no say');
}

# what was pending when the client was lost

{
    my $c = ImsClient->new(user => 'pending');
    ImsCall::registered($c, $core);

    my $term = ImsCall->called($c, $core, $in, until => 'ringing');
    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    $c->answer();
    my $orig = ImsCall->calls($c, $core, until => 'ringing');
    my $early = ImsCall->calls($c, $core, until => 'invite');

    $c->{ws}->drop();

    my %got;
    for (1 .. 3) {
        ($r) = $core->request(3);
        $got{!$r ? 'nothing' : $r->{status}
            ? "$r->{status} " . sip_header($r, 'CSeq') =~ s/\d+ //r
            : $r->{method}}++;
    }
    is_deeply(\%got, { '430 INVITE' => 1, '430 MESSAGE' => 1, CANCEL => 1 },
        '430 for what the core waits for, CANCEL of the client\'s INVITE')
        or diag explain \%got;

    ok($core->silent(0.2), 'none yet for the one without a 1xx');
    $core->send($early->{link}, sip_reply($early->{invite}, 180, 'Ringing'));
    ($m) = $core->request();
    is($m->{method}, 'CANCEL', 'CANCEL after its 1xx');

    for my $d ($orig, $early) {
        $core->reply($d->{link}, $d->{invite}, 487, 'Terminated');
        is(($core->request())[0]->{method}, 'ACK', 'ACK of its 487');
    }

    # and nobody hears of them afterwards

    $c->connect();
    ImsCall::registered($c, $core);
    ok(!defined $c->{ws}->recv(0.2), 'not told to the client that is back');

    $c->send($term->reply_text(200, 'OK'));
    ok($core->silent(0.2), 'a late 200 of the lost call goes nowhere');
}

# another device, or user, is no take-over

{
    my $c = ImsClient->new(user => 'owner');
    ImsCall::registered($c, $core);
    my $d = ImsCall->calls($c, $core);
    lose($c);

    my $other = ImsClient->new(user => 'owner');
    ImsCall::registered($other, $core);
    isnt($other->{path}, $c->{path}, 'another device has another flow');
    $other->send($d->from_client('BYE'));
    is($other->answer()->{status}, 403, 'and no part in the dialog');

    my $thief = ImsClient->new(user => 'thief',
        ua => { instance => $c->{ua}{instance} });
    ImsCall::registered($thief, $core);
    isnt($thief->{path}, $c->{path}, 'another user with that instance too');

    # who does not come back: 430 after 5 s

    my $start = time();
    $core->send($in, $d->from_core('BYE'));
    ($r) = $core->request(8);
    my $took = time() - $start;
    is($r->{status}, 430, 'held in vain');
    ok($took > 4 && $took < 15, 'for 5 s') or diag $took;
    ok(!defined $_->{ws}->recv(0.1), 'and never to another')
        for $other, $thief;
}

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# the network is gone, and the edge knows

sub lose {
    my ($c) = @_;

    my $before = ims_status()->{counters}{flow_lost};
    $c->{ws}->drop();
    ims_wait(5, sub { ims_status()->{counters}{flow_lost} > $before })
        or die "not lost\n";
}

###############################################################################
