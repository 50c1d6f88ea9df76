#!/usr/bin/perl

# Tests for the edge's own subscription to registration events: SUBSCRIBE as it
# is sent, and what a NOTIFY ends. Nothing rests on it, and nothing but a NOTIFY
# of that very subscription is taken for one.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::IP;
use Time::HiRes qw/ sleep /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(186);

ims_keys($t);
ims_pool($t, size => 60);

# identities with two IMPUs

ims_poolctl($t, 'pool', 'create', 'two', 'ims.example');
ims_poolctl($t, 'identity', 'add', 'two', "two$_\@ims.example",
    '--impu', "sip:two$_\@ims.example", '--impu', "sip:alias$_\@ims.example")
    for 1 .. 4;

my %conf = (workers => 2, issuer => 'pool two;', grace => '300s',
    ws => 'ims_reg_event on;', locations => <<'END');
        location = /ims/two {
            ims_identity       two issuer=site;
            ims_identity_user  $remote_user;
        }

        location = /ims/plain {
            ims_pass           core;
            ims_accept_issuer  site;
        }
END

$t->write_file_expand('nginx.conf', ims_conf($t, %conf));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my $edge = '127.0.0.1:' . port(8070);
my $notifier = 'sip:notifier@127.0.0.1:' . port(8060);
my $ns = 'urn:ietf:params:xml:ns:reginfo';
my $hop = '<sip:hop@127.0.0.1:' . port(8060) . ';lr>';
my ($m, $link, $a, $r, $n, $c);

# what the edge sends

$c = ImsClient->new(user => 'alice');
ImsCall::registered($c, $core);
($m, $link) = $core->request();

is($m ? "$m->{method} $m->{ruri}" : 'nothing', "SUBSCRIBE $c->{id}{impu}",
    'SUBSCRIBE after the 2xx');
is(sip_header($m, 'To'), "<$c->{id}{impu}>", 'To');
like(sip_header($m, 'From'), qr/^<sip:\Q$edge\E>;tag=[0-9a-f]{16}$/,
    'From: the edge');
is(join('|', sip_headers($m, 'P-Asserted-Identity')), "<sip:$edge>",
    'P-Asserted-Identity: the edge');
like(sip_header($m, 'Contact'),
    qr/^<sip:[\w-]{30}\@\Q$edge\E;transport=tcp>$/, 'Contact: the edge');
is(join('|', sip_headers($m, 'Route')), ImsCall::service_route(),
    'Route: the Service-Route');
is(scalar sip_headers($m, 'Record-Route'), 0, 'no Record-Route');
is(sip_header($m, 'Event'), 'reg', 'Event');
is(sip_header($m, 'Accept'), 'application/reginfo+xml', 'Accept');
cmp_ok(sip_header($m, 'Expires'), '>', 600, 'Expires: longer than registered');
cmp_ok(sip_header($m, 'Expires'), '<=', 660, 'but not much');
is(join('|', sip_headers($m, 'Via')) =~ tr/|//, 0, 'one Via');
like(sip_header($m, 'P-Charging-Vector'),
    qr/^icid-value="[0-9a-f]{32}";orig-ioi="ims\.example"$/, 'charging');

# no byte of it is the client's

unlike($m->{text}, qr/\Q$_\E/, "not the client's $_")
    for $c->{ua}{user}, $c->{ua}{host}, $c->{ua}{call_id}, $c->{ua}{instance},
        'JsSIP', $c->{id}{token};

my $path = $c->{path} =~ s/@.*//r;
unlike($m->{text}, qr/\Q$path\E/, 'nor the Path token');

accept_it($c, $m, $link);
ok(ims_wait_log($t, qr/subscribed to its registration events/), 'logged');
is(ims_status()->{counters}{reg_event_sent}, 1, 'and counted');

# active keeps

answered($c, 200, 'full state, active', body($c, 0, 'full',
    reg($c, 'active', ours($c, 'active', 'registered'))));
alive($c, 'it keeps the flow');

answered($c, 200, 'another device', body($c, 1, 'partial',
    reg($c, 'active', contact('sip:x@y.invalid', 'terminated', 'expired'))));
answered($c, 200, 'a Contact that begins as ours', body($c, 2, 'partial',
    reg($c, 'active', contact($c->{ua}->contact() . ';ob', 'terminated',
    'expired'))));
answered($c, 200, 'another IMPU', body($c, 3, 'partial',
    reg('sip:web-000059@ims.example', 'terminated',
        ours($c, 'terminated', 'expired'))));
answered($c, 200, 'no body', '');
alive($c, 'none of them ends the flow');

# a client's own subscription, and its NOTIFYs, pass as before

$c->send($c->{ua}->request('SUBSCRIBE', to => $c->{id}{impu},
    extra => ['Event: reg', 'Expires: 300',
              'Contact: <' . $c->{ua}->contact() . '>']));
($m, $link) = $core->request();
is($m->{method} . ' ' . sip_header($m, 'Event'), 'SUBSCRIBE reg',
    "the client's own SUBSCRIBE");
like(sip_header($m, 'Contact'), qr/\Q$c->{ua}{user}\E/, 'with its Contact');
$core->reply($link, $m, 200, 'OK', to_tag => 'other');
is($c->answer()->{status}, 200, 'its answer');

$core->send($in, ImsCall::core_request($c, 'NOTIFY',
    call_id => sip_header($m, 'Call-ID'),
    route => sip_header($m, 'Record-Route'), to_tag => 'x',
    extra => ['Event: reg', 'Subscription-State: active'],
    type => 'application/reginfo+xml', body => body($c, 9, 'full',
        reg($c, 'terminated', ours($c, 'terminated', 'rejected')))));
$m = $c->answer();
is($m ? $m->{method} : 'nothing', 'NOTIFY', 'its NOTIFY goes to the client');
$c->send(sip_reply($m, 200, 'OK'));
is(($core->request())[0]->{status}, 200, 'who answers');
alive($c, 'and it ends nothing');

# what is refused: nothing of it is taken

my $ended = body($c, 50, 'full',
    reg($c, 'terminated', ours($c, 'terminated', 'rejected')));
my $entities = qq{<!DOCTYPE x [<!ENTITY a "aaaa">]>$ended};
my $token = $c->{sub}{uri} =~ /^sip:([^@]+)/ ? $1 : '';
my $wrong = $token =~ s/(.)(?=.{4}$)/$1 eq 'A' ? 'B' : 'A'/er;

for (['garbage', 400, 'reg_event_bad', body => '<reginfo'],
     ['a DTD', 400, 'reg_event_bad', body => $entities],
     ['another document', 400, 'reg_event_bad', body => '<x/>'],
     ['half a document', 400, 'reg_event_bad',
      body => substr $ended, 0, length($ended) - 20],
     ['a very long one', 413, 'reg_event_bad', body => $ended . ' ' x 40000],
     ['another type', 415, 'reg_event_bad', type => 'application/pidf+xml'],
     ['another event', 489, 'reg_event_bad', event => 'presence'],
     ['no event', 489, 'reg_event_bad', event => ''],
     ['no Subscription-State', 400, 'reg_event_bad', state => ''],
     ['another tag of ours', 481, 'reg_event_unknown', to_tag => 'x'],
     ['no tag of ours', 481, 'reg_event_unknown', to_tag => undef],
     ['another notifier', 481, 'reg_event_unknown', from_tag => 'evil'],
     ['an old CSeq', 500, 'reg_event_old', cseq => 1],
     ['another Call-ID', 403, 'flow_token_forged', call_id => 'x'],
     ['a wrong token', 403, 'flow_token_forged',
      ruri => $c->{sub}{uri} =~ s/\Q$token\E/$wrong/r],
     ['a Path token', 404, undef, ruri => $c->{path}],
     ['the token in a Route', 403, 'flow_token_forged',
      route => "<$c->{sub}{uri};lr>", ruri => $c->{ua}->contact()],
     ['no NOTIFY', 405, undef, method => 'MESSAGE'],
     ['an INVITE', 405, undef, method => 'INVITE'])
{
    my ($name, $status, $counter, %o) = @$_;
    my $before = ims_status()->{counters};

    $r = notify($c, $o{body} // $ended, cseq => $c->{sub}{cseq} + 1, %o);
    is($r ? $r->{status} : 'nothing', $status, "$name: $status");
    is(ims_status()->{counters}{$counter}, $before->{$counter} + 1,
        "$name: $counter") if defined $counter;
}

is(sip_header(notify($c, $ended, event => 'x'), 'Allow-Events'), 'reg',
    'what would do');
alive($c, 'all of them end nothing');

# an event token is no way to the client

$core->send($in, ImsCall::core_request($c, 'MESSAGE',
    route => "<$c->{sub}{uri};lr>"));
is(($core->request())[0]->{status}, 403, 'no Path token');
$core->send($in, ImsCall::core_request($c, 'BYE', to_tag => 'x',
    call_id => $c->{sub}{call_id}, route => "<$c->{sub}{uri};lr>"));
is(($core->request())[0]->{status}, 403, 'no Record-Route token');
ok(!defined $c->{ws}->recv(0.2), 'nothing came to the client');

# nor is anybody believed who is not the core: by another address of his

{
    my $before = ims_status()->{counters};
    my $s = IO::Socket::IP->new(Proto => 'tcp', LocalHost => '127.0.0.2',
        PeerHost => '127.0.0.1', PeerPort => port(8070)) or die "$!\n";

    local $SIG{PIPE} = 'IGNORE';
    $s->syswrite(notify_text($c, $ended, cseq => $c->{sub}{cseq} + 1));
    ok(ims_wait(5, sub { ims_status()->{counters}{core_refused}
        == $before->{core_refused} + 1 }), 'another address is refused');
    is($s->sysread(my $got, 1) // 0, 0, 'and told nothing');
    is(ims_status()->{counters}{reg_event_notify},
        $before->{reg_event_notify}, 'what it sent is not taken');
    alive($c, 'it ends nothing');
}

# an old version is not looked at

answered($c, 200, 'version 3 once more', body($c, 3, 'full',
    reg($c, 'terminated', '')));
alive($c, 'not taken');
is(ims_status()->{counters}{reg_event_old}, 2, 'counted');

# nor the same NOTIFY once more

$r = notify($c, $ended, cseq => $c->{sub}{cseq});
is($r->{status}, 200, 'a retransmission');
alive($c, 'not taken');

# not by the token of another flow

{
    my $other = ImsClient->new();
    ImsCall::registered($other, $core);
    accept_it($other, $core->request());

    $r = notify($c, $ended, ruri => $other->{sub}{uri},
        cseq => $c->{sub}{cseq} + 1);
    is($r->{status}, 403, 'the Contact of another flow');
    answered($other, 200, 'what another flow is told', body($c, 5, 'full',
        reg($c, 'terminated', ours($c, 'terminated', 'rejected'))));
    alive($_, 'ends nothing') for $c, $other;
    $other->{ws}->close();
}

# each REGISTER refreshes within the dialog

my $call_id = $c->{sub}{call_id};
ImsCall::registered($c, $core);
($m, $link) = $core->request();
is("$m->{method} $m->{ruri}", "SUBSCRIBE $notifier", 'refreshed');
is(sip_header($m, 'Call-ID'), $call_id, 'in its dialog');
is(sip_header($m, 'To'), "<$c->{id}{impu}>;tag=far", 'To with its tag');
is(sip_header($m, 'CSeq'), '2 SUBSCRIBE', 'next CSeq');
is(join('|', sip_headers($m, 'Route')), $hop, 'by its route set');
is(sip_header($m, 'Contact'), "<$c->{sub}{uri}>", 'the same Contact');

# 481: that dialog is dead

$core->reply($link, $m, 481, 'No Such Subscription');
ok(ims_wait_log($t, qr/no registration events from the core: SUBSCRIBE 481/),
    '481 logged');
$r = notify($c, $ended);
is($r->{status}, 481, 'so are its NOTIFYs');
alive($c, 'the flow goes on');
ok($core->silent(0.3), 'it is not asked for at once');

ImsCall::registered($c, $core);
($m, $link) = $core->request();
is("$m->{method} $m->{ruri}", "SUBSCRIBE $c->{id}{impu}",
    'but with the next REGISTER');
isnt(sip_header($m, 'Call-ID'), $call_id, 'as a new one');

# a NOTIFY that is faster than the 2xx, and one that was missed

heard($c, $m);
answered($c, 200, 'a NOTIFY before the 2xx', body($c, 0, 'full',
    reg($c, 'active', ours($c, 'active', 'registered'))));
accept_it($c, $m, $link);
answered($c, 200, 'a partial one behind a gap', body($c, 7, 'partial', ''));
($m, $link) = $core->request();
is(sip_header($m, 'CSeq'), '2 SUBSCRIBE', 'asks for the full state');
$core->reply($link, $m, 200, 'OK', contact => "<$notifier>");
answered($c, 200, 'another gap', body($c, 17, 'partial', ''));
ok($core->silent(0.2), 'once');

# the subscription ends, the registration does not

answered($c, 200, 'the subscription ends', '',
    state => 'terminated;reason=timeout');
is(notify($c, $ended)->{status}, 481, 'there is none');
alive($c, 'the flow goes on');
ImsCall::registered($c, $core);
($m, $link) = $core->request();
is($m->{ruri}, $c->{id}{impu}, 'a new one with the next REGISTER');
accept_it($c, $m, $link);

# shortened: never longer than that

answered($c, 200, 'shortened', body($c, 0, 'full', reg($c, 'active',
    contact($c->{ua}->contact(), 'active', 'shortened', 'expires="2"'))));
ok(ims_wait_log($t, qr/its registration was not refreshed/),
    'registered no longer');
$c->send($c->{ua}->request('MESSAGE', to => 'sip:b@ims.example'));
is($c->answer()->{status}, 403, 'and may not send');
answered($c, 200, 'an end of what is not registered', body($c, 1, 'full',
    reg($c, 'terminated', '')));
alive($c, 'closes nothing');
ImsCall::registered($c, $core);
accept_it($c, $core->request());

# the same by a time that is longer

answered($c, 200, 'shortened to more', body($c, 10, 'full', reg($c, 'active',
    contact($c->{ua}->contact(), 'active', 'shortened', 'expires="99999"'))));
$n = ims_status()->{counters}{reg_event_ended};
is($n, 0, 'nothing was ended so far');

# terminated: for each reason the flow is closed, and nothing is left to be
# de-registered

for my $event (qw/ deactivated expired probation unregistered rejected /) {
    ended_by($event, sub {
        reg($_[0], 'active', ours($_[0], 'terminated', $event)) });
}

ended_by('the registration', sub { reg($_[0], 'terminated', '') });
ended_by('other prefix and AOR form', sub { reg(
    $_[0]{id}{impu} =~ s/ims\.example/IMS.example:5060/r, 'terminated', '') });

# a notifier that numbers nothing (Kamailio's pua_reginfo): whole documents of
# version 0, ordered by CSeq alone

{
    my $d = ImsClient->new();
    ImsCall::registered($d, $core);
    accept_it($d, $core->request());

    answered($d, 200, 'version 0', body($d, 0, 'full',
        reg($d, 'active', ours($d, 'active', 'created')))) for 1, 2;
    answered($d, 200, 'a partial one of version 0', body($d, 0, 'partial',
        reg($d, 'terminated', '')));
    alive($d, 'is none of these');
    $r = notify($d, body($d, 0, 'full', reg($d, 'terminated', '')), cseq => 3);
    is($r->{status}, 500, 'nor is an old one');
    answered($d, 200, 'version 0 again', body($d, 0, 'full',
        reg($d, 'terminated', ours($d, 'terminated', 'unregistered'))));
    closed($d, 'version 0 again');
}

# one of two IMPUs

{
    my $two = ImsClient->new(identity => '/ims/two');
    my ($impu, $alias) = @{$two->{id}{impus}};
    my $set = "<$impu>, <$alias>";

    ImsCall::registered($two, $core, associated => $set);
    accept_it($two, $core->request());
    ImsCall::registered($two, $core, associated => $set, aor => $alias);
    ($m, $link) = $core->request();
    is(sip_header($m, 'Call-ID'), $two->{sub}{call_id},
        'two IMPUs, one subscription');
    $core->reply($link, $m, 200, 'OK', contact => "<$notifier>");

    is(asserted($two, $alias), $alias, 'both may be asserted');
    answered($two, 200, 'one is terminated', body($two, 0, 'full',
        reg($impu, 'terminated', ours($two, 'terminated', 'rejected')),
        reg($alias, 'active', ours($two, 'active', 'registered'))));
    alive($two, 'the flow goes on');
    is(asserted($two, $impu), $alias, 'the other one is asserted');
    answered($two, 200, 'the other, too', body($two, 1, 'partial',
        reg($alias, 'active', ours($two, 'terminated', 'deactivated'))));
    closed($two, 'the last one');
}

# a core that does not do it

for (403, 489, 501, 302) {
    my $d = ImsClient->new();
    my $before = ims_status()->{counters}{reg_event_refused};

    ImsCall::registered($d, $core);
    ($m, $link) = $core->request();
    $core->reply($link, $m, $_, 'No');
    ok(ims_wait(5, sub {
        ims_status()->{counters}{reg_event_refused} == $before + 1 }),
        "$_: counted");
    ok($core->silent(0.1) && $d->alive(), "$_: no matter");
    $d->{ws}->close();
}

# a REGISTER under way while its IMPU is ended: it may be bound once more, so
# the edge takes it back

{
    my $d = ImsClient->new();
    ImsCall::registered($d, $core);
    accept_it($d, $core->request());
    $d->send($d->{ua}->register());
    ($m, $link) = $core->request();
    answered($d, 200, 'ended while a REGISTER is in flight', body($d, 0,
        'full', reg($d, 'terminated', '')));
    closed($d, 'with a REGISTER in flight');
    $core->reply($link, $m, 200, 'OK');
    ($m, $link) = $core->request(8);
    is($m ? "$m->{method} " . sip_header($m, 'Expires') : 'nothing',
        'REGISTER 0', 'it is taken back');
    $core->reply($link, $m, 200, 'OK', contact => '') if $m;
}

# NOTIFY comes to whichever worker

{
    my $d = ImsClient->new();
    ImsCall::registered($d, $core);
    accept_it($d, $core->request());

    my ($sent, @links) = ims_status()->{counters}{deliver_sent};
    my $passed;

    for (1 .. 60) {
        push @links, $core->connect(port(8070));
        answered($d, 200, undef, '', link => $links[-1]);
        $passed = ims_status()->{counters}{deliver_sent} > $sent;
        last if $passed;
        sleep 0.05;     # for the one that takes no connection just now
    }

    ok($passed, 'a NOTIFY at the other worker');

    # after a take-over the old subscription is nobody's

    my %old = %{$d->{sub}};
    my $ws = $d->{ws};
    $d->connect();
    ImsCall::registered($d, $core);
    is(($ws->closed(5))[0], 1008, 'taken over');
    ($m, $link) = $core->request();
    is($m->{ruri}, $d->{id}{impu}, 'the new connection subscribes anew');
    accept_it($d, $m, $link);
    $r = notify($d, body($d, 0, 'full', reg($d, 'terminated', '')),
        %old, ruri => $old{uri}, to_tag => $old{tag}, cseq => 99);
    is($r->{status}, 481, 'the old one is gone');
    alive($d, 'it ends nothing');

    # an old worker is found after a reload

    kill 'HUP', $t->read_file('nginx.pid') + 0;
    ok(ims_wait_log($t, qr/gracefully shutting down/, count => 2), 'reload');
    $in = $core->connect(port(8070));
    answered($d, 200, 'after a reload', body($d, 1, 'full',
        reg($d, 'terminated', '')));
    closed($d, 'after a reload');

    # and of a flow that is gone there is none

    $r = notify($d, $ended);
    is($r->{status}, 481, 'a flow that is gone');
}

# a core that is silent: no matter either, and no worker waits for it

{
    my $d = ImsClient->new();
    ImsCall::registered($d, $core);
    ($m) = $core->request();
    is($m->{method}, 'SUBSCRIBE', 'asked');
    alive($d, 'not answered');
    $d->send($d->{ua}->register(expires => 0));
    ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK');
    is($d->answer()->{status}, 200, 'de-registered meanwhile');
    ok($core->silent(0.2), 'for which nothing is asked');
    is(($d->{ws}->close())[0], 1000, 'the client goes');
}

# off: nothing is asked

{
    my $d = ImsClient->new(ws => { uri => '/ims/plain' });
    ImsCall::registered($d, $core);
    ok($core->silent(0.3), 'off by default');
}

is(ims_count_log($t, qr/sip:web-0000\d\d/), 0, 'no identity in the log');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# a SUBSCRIBE as a notifier has it

sub heard {
    my ($c, $m) = @_;

    my $id = sip_header($m, 'Call-ID');
    return if $c->{sub} && $c->{sub}{call_id} eq $id;

    $c->{sub} = {
        uri => sip_header($m, 'Contact') =~ s/[<>]//gr,
        call_id => $id, cseq => 1,
        tag => sip_header($m, 'From') =~ s/.*;tag=//r,
    };
}


sub accept_it {
    my ($c, $m, $link) = @_;

    heard($c, $m);

    $core->reply($link, $m, 200, 'OK', to_tag => 'far',
        contact => "<$notifier>",
        extra => ['Expires: ' . sip_header($m, 'Expires'),
                  "Record-Route: $hop"]);
}


# a NOTIFY of it, and its answer; %o: what is to be another than it should

sub notify {
    my ($c, $body, %o) = @_;

    $core->send($o{link} // $in, notify_text($c, $body, %o));

    # what the edge asks meanwhile is for the next request()

    my (@others, $answer);

    while (my ($m, $from) = $core->request()) {
        $answer = $m;
        last if defined $m->{status};
        push @others, [$m, $from];
    }

    unshift @{$core->{queue}}, @others;

    return $answer;
}


sub notify_text {
    my ($c, $body, %o) = @_;

    my $sub = $c->{sub};
    my $cseq = $o{cseq} // ++$sub->{cseq};
    my $event = $o{event} // 'reg';
    my $state = $o{state} // 'active;expires=600';

    return ImsCall::core_request($c, $o{method} // 'NOTIFY',
        ruri => $o{ruri} // $sub->{uri}, route => $o{route} // '',
        call_id => $o{call_id} // $sub->{call_id}, cseq => $cseq,
        from => $c->{id}{impu}, from_tag => $o{from_tag} // 'far',
        to => "sip:$edge",
        to_tag => exists $o{to_tag} ? $o{to_tag} : $sub->{tag},
        extra => [($event ne '' ? "Event: $event" : ()),
                  ($state ne '' ? "Subscription-State: $state" : ()),
                  "Contact: <$notifier>"],
        type => $o{type} // 'application/reginfo+xml', body => $body);
}


sub answered {
    my ($c, $status, $name, $body, %o) = @_;

    my $r = notify($c, $body, %o);

    is($r ? $r->{status} : 'nothing', $status, "NOTIFY: $name")
        if defined $name;
}


sub body {
    my ($c, $version, $state, @registrations) = @_;

    return qq{<?xml version="1.0"?>\n<reginfo xmlns="$ns" version="$version" }
        . qq{state="$state">@registrations</reginfo>\n};
}


sub reg {
    my ($aor, $state, $contacts) = @_;

    $aor = $aor->{id}{impu} if ref $aor;

    return qq{<registration aor="$aor" id="r1" state="$state">$contacts}
        . '</registration>';
}


sub contact {
    my ($uri, $state, $event, $more) = @_;

    $more //= '';

    return qq{<contact id="c1" state="$state" event="$event" $more>}
        . "<uri>$uri</uri></contact>";
}


sub ours {
    my ($c, $state, $event) = @_;

    return contact($c->{ua}->contact(), $state, $event);
}


sub alive {
    my ($c, $name) = @_;

    ok($c->alive(), $name);
}


# closed as one that the core has ended, which the core need not be told

sub closed {
    my ($c, $name) = @_;

    is_deeply([$c->{ws}->closed(5)],
        [1008, 'registration ended by the core'], "$name: closed");
}


sub ended_by {
    my ($name, $registration) = @_;

    my $d = ImsClient->new();
    my $before = ims_status()->{counters};

    ImsCall::registered($d, $core);
    accept_it($d, $core->request());
    answered($d, 200, $name, body($d, 0, 'full', $registration->($d)));
    closed($d, $name);
    ok($core->silent(0.1), "$name: nothing left to de-register");
    is(ims_status()->{counters}{reg_event_ended},
        $before->{reg_event_ended} + 1, "$name: counted");
}


# who is asserted for a message that asks to be from that IMPU

sub asserted {
    my ($c, $impu) = @_;

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
        extra => ["P-Preferred-Identity: <$impu>"]));
    my ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK');
    $c->answer();

    return sip_header($m, 'P-Asserted-Identity') =~ s/[<>]//gr;
}

###############################################################################
