#!/usr/bin/perl

# Tests for all methods in both directions, in and out of dialogs: forks,
# CANCEL, refusals, kinds of routes, forms of headers, identities, devices.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(335);

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3,
    ws => 'ims_access_network IEEE-802.11;'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my ($m, $link, $a, $r);

my $c = ImsClient->new(user => 'alice');
my $tel = 'tel:+4930123456';
ImsCall::registered($c, $core, associated => "<$c->{id}{impu}>, <$tel>");
my $pai = "<$c->{id}{impu}>";

# initial requests to the core and from it

for my $method (qw/ MESSAGE OPTIONS SUBSCRIBE PUBLISH REFER NOTIFY INFO FOO /) {
    my $name = "$method to the core";

    $c->send($c->{ua}->request($method, to => 'sip:bob@ims.example'));
    ($m, $link) = $core->request();
    is($m->{method}, $method, $name);
    is(join('|', sip_headers($m, 'Route')), ImsCall::service_route(),
        "$name: Service-Route");
    is(scalar sip_headers($m, 'Record-Route'),
        $method =~ /^(SUBSCRIBE|REFER|NOTIFY)$/ ? 1 : 0,
        "$name: Record-Route if it makes a dialog");
    $core->reply($link, $m, 202, 'Accepted');
    is($c->answer()->{status}, 202, "$name: answered");

    $name = "$method from the core";

    $core->send($in, ImsCall::core_request($c, $method));
    $m = $c->answer();
    is($m->{method}, $method, $name);
    $c->send(sip_reply($m, 202, 'Accepted', extra =>
        [map { "Record-Route: $_" } sip_headers($m, 'Record-Route')]));
    ($r) = $core->request();
    is($r->{status}, 202, "$name: answered");
}

# in dialogs that either side began

for my $d (ImsCall->calls($c, $core), ImsCall->called($c, $core, $in)) {
    my $side = $d->{side};

    $d->{side} eq 'orig'
        ? $c->send($d->from_client('ACK', cseq => 1))
        : $core->send($in, $d->from_core('ACK', cseq => 1));
    $m = $d->{side} eq 'orig' ? ($core->request())[0] : $c->answer();
    is($m->{method}, 'ACK', "$side: ACK passed");

    for my $method (qw/ PRACK UPDATE INFO REFER NOTIFY OPTIONS MESSAGE
                        INVITE BYE /)
    {
        $c->send($d->from_client($method));
        ($m, $link) = $core->request();
        $c->answer() if $method eq 'INVITE';
        is("$m->{method} " . join('|', sip_headers($m, 'Route')),
            "$method " . ImsCall::far_route(), "$side: $method of the client");
        $core->reply($link, $m, 200, 'OK');
        is($c->answer()->{status}, 200, "$side: $method of it answered");

        if ($method eq 'INVITE') {
            $c->send($d->from_client('ACK', cseq => $d->{cseq}));
            is(($core->request())[0]->{method}, 'ACK', "$side: ACK of it");
        }

        $core->send($in, $d->from_core($method));
        $core->request() if $method eq 'INVITE';
        $m = $c->answer();
        is($m->{method} . scalar sip_headers($m, 'Route'), "${method}0",
            "$side: $method of the core");
        $c->send(sip_reply($m, 200, 'OK'));
        is(($core->request())[0]->{status}, 200,
            "$side: $method of it answered");

        if ($method eq 'INVITE') {
            $core->send($in, $d->from_core('ACK', cseq => $d->{far_cseq}));
            is($c->answer()->{method}, 'ACK', "$side: ACK to the client");
        }
    }
}

# what the core shall keep does not outlast the lease

for (['SUBSCRIBE', 999999], ['SUBSCRIBE', undef], ['PUBLISH', 4294967295],
     ['REFER', 100000])
{
    my ($method, $asked) = @$_;
    my ($m, $link) = sent($method, defined $asked ? "Expires: $asked" : ());
    my @expires = sip_headers($m, 'Expires');
    ok(@expires == 1 && $expires[0] > 500 && $expires[0] <= 600,
        "$method: Expires cut") or diag "@expires";
    $core->reply($link, $m, 200, 'OK');
    $c->answer();
}

for (['SUBSCRIBE', 30], ['SUBSCRIBE', 0]) {
    my ($m, $link) = sent($_->[0], "Expires: $_->[1]");
    is(join('|', sip_headers($m, 'Expires')), $_->[1], 'a shorter one stays');
    $core->reply($link, $m, 200, 'OK');
    $c->answer();
}

for my $bad ('-1', '5 5', '"60"', '99999999999', 'x') {
    $c->send($c->{ua}->request('SUBSCRIBE', extra => ["Expires: $bad"]));
    is($c->answer()->{status}, 400, "Expires $bad");
}

# forks: each has a dialog of its own

{
    my $d = ImsCall->calls($c, $core, until => 'invite');
    for my $tag (qw/ one two /) {
        $a = $d->far_reply(183, 'Session Progress', to_tag => $tag,
            extra => ['Require: 100rel', 'RSeq: 1']);
        is(sip_header($a, 'RSeq'), 1, "fork $tag: reliable 183");
    }
    isnt($d->{routes_of}{one}[0], $d->{routes_of}{two}[0],
        'each with a value of its own');

    for my $tag (qw/ one two /) {
        $c->send($d->from_client('PRACK', to_tag => $tag,
            extra => ['RAck: 1 1 INVITE']));
        ($m, $link) = $core->request();
        like(sip_header($m, 'To'), qr/;tag=$tag/, "fork $tag: PRACK");
        $core->reply($link, $m, 200, 'OK');
        is($c->answer()->{status}, 200, "fork $tag: PRACK answered");
    }

    $c->send($d->from_client('UPDATE', to_tag => 'one',
        routes => $d->{routes_of}{two}));
    is($c->answer()->{status}, 403, 'the route of another fork');

    for my $tag (qw/ one two /) {
        $a = $d->far_reply(200, 'OK', to_tag => $tag);
        is($a->{status}, 200, "fork $tag: 200");
    }
    for my $tag (qw/ one two /) {
        $c->send($d->from_client('ACK', cseq => 1, to_tag => $tag));
        is(($core->request())[0]->{method}, 'ACK', "fork $tag: ACK");
        $c->send($d->from_client('BYE', to_tag => $tag));
        ($m, $link) = $core->request();
        is($m->{method}, 'BYE', "fork $tag: BYE");
        $core->reply($link, $m, 200, 'OK');
        $c->answer();
    }

    # the client as two forks' one: it answers a 180 and a 200 by another tag

    $d = ImsCall->called($c, $core, $in, until => 'ringing');
    is($d->reply(200, 'OK', to_tag => 'desk')->{status}, 200,
        '200 of another early dialog');
    $d->{wic_tag} = 'desk';
    $core->send($in, $d->from_core('ACK', cseq => 1));
    is($c->answer()->{method}, 'ACK', 'its ACK');
}

# a CANCEL that comes before any 1xx waits for one

{
    my $d = ImsCall->calls($c, $core, until => 'invite');
    $c->send(cancel($d->{sent}));
    is($c->answer()->{status}, 200, 'early CANCEL answered');
    ok($core->silent(0.2), 'but held');
    $core->send($d->{link}, sip_reply($d->{invite}, 100, 'Trying'));
    ($m) = $core->request();
    is($m->{method}, 'CANCEL', 'until a 1xx');
    is(sip_header($m, 'Via'), sip_header($d->{invite}, 'Via'),
        'with the Via of the INVITE');
    is(sip_header($m, 'Route'), sip_header($d->{invite}, 'Route'),
        'and its Route');
    is(scalar sip_headers($m, 'Via'), 1, 'and no other');
    $core->reply($d->{link}, $m, 200, 'OK');
    $core->reply($d->{link}, $d->{invite}, 487, 'Terminated', to_tag => 'x');
    ($m) = $core->request();
    is($m->{method}, 'ACK', 'ACK of the 487 by the edge');
    like(sip_header($m, 'To'), qr/;tag=x$/, 'with its To tag');
    is($c->answer()->{status}, 487, '487 to the client');

    # why a call is cancelled is told to the other side

    my $why = 'SIP;cause=200;text="Call completed elsewhere", X;cause=1';

    $d = ImsCall->called($c, $core, $in, until => 'ringing');
    $core->send($in, ImsCall::core_request($c, 'CANCEL',
        branch => $d->{branch}, call_id => $d->{call_id},
        from_tag => $d->{far_tag}, extra => ["Reason: $why"]));
    is(($core->request())[0]->{status}, 200, 'CANCEL with a Reason');
    $m = $c->answer();
    is(sip_header($m, 'Reason'), $why, 'which the client is told');
    $c->send(sip_reply($m, 200, 'OK'));
    is($d->reply(487, 'Terminated')->{status}, 487, 'and its end');
    is($c->answer()->{method}, 'ACK', 'ACK of it');

    $d = ImsCall->calls($c, $core, until => 'invite');
    $c->send(cancel($d->{sent}) =~ s/^(CSeq: [^\r]*)/$1\r\nReason: $why/mr);
    is($c->answer()->{status}, 200, 'one of the client, which is held');
    $core->send($d->{link}, sip_reply($d->{invite}, 100, 'Trying'));
    ($m) = $core->request();
    is(sip_header($m, 'Reason'), $why, 'the core is told');
    $core->reply($d->{link}, $m, 200, 'OK');
    $core->reply($d->{link}, $d->{invite}, 487, 'Terminated');
    is(($core->request())[0]->{method}, 'ACK', 'ACK of its 487');
    is($c->answer()->{status}, 487, 'and its end');

    $d = ImsCall->calls($c, $core, until => 'ringing');
    $c->send(cancel($d->{sent}) =~ s/^(CSeq: [^\r]*)/"$1\r\nReason: "
        . 'x' x 600/emr);
    is($c->answer()->{status}, 200, 'a very long Reason');
    ($m) = $core->request();
    is("$m->{method} " . sip_headers($m, 'Reason'), 'CANCEL 0',
        'is left out');
    $core->reply($d->{link}, $m, 200, 'OK');
    $core->reply($d->{link}, $d->{invite}, 487, 'Terminated');
    is(($core->request())[0]->{method}, 'ACK', 'ACK of its 487');
    is($c->answer()->{status}, 487, 'and its end');

    # a second CANCEL is a retransmission

    $d = ImsCall->calls($c, $core, until => 'ringing');
    $c->send(cancel($d->{sent})) for 1, 2;
    is($c->answer()->{status}, 200, 'CANCEL twice') for 1, 2;
    is(($core->request())[0]->{method}, 'CANCEL', 'sent');
    ok($core->silent(0.1), 'once');

    # crossed with a 200: the dialog stands

    is($d->far_reply(200, 'OK')->{status}, 200, '200 after CANCEL passes');
    $c->send($d->from_client('ACK', cseq => 1));
    is(($core->request())[0]->{method}, 'ACK', 'and its ACK');
}

# answers of the core

{
    for (['MESSAGE', 503, 500], ['MESSAGE', 408, 504], ['MESSAGE', 404, 404],
         ['MESSAGE', 302, 302], ['INVITE', 503, 500], ['INVITE', 408, 408],
         ['INVITE', 603, 603], ['INVITE', 486, 486])
    {
        my ($method, $status, $told) = @$_;
        my ($m, $link) = sent($method);
        $c->answer() if $method eq 'INVITE';
        $core->reply($link, $m, $status, 'Core Says');
        is($c->answer()->{status}, $told, "$status of $method");
        is(($core->request())[0]->{method}, 'ACK', "ACK of that $status")
            if $method eq 'INVITE';
    }

    my ($m, $link) = sent('MESSAGE');
    $core->reply($link, $m, 200, 'OK') for 1 .. 3;
    is($c->answer()->{status}, 200, 'three times 200');
    ok(!defined $c->{ws}->recv(0.2), 'is one');
}

# answers of a client: none of them tells the core that the edge is overloaded

{
    for (['MESSAGE', 503, 500], ['MESSAGE', 408, 504], ['MESSAGE', 480, 480],
         ['INVITE', 503, 500], ['INVITE', 408, 408], ['INVITE', 603, 603])
    {
        my ($method, $status, $told) = @$_;
        my $via = ["SIP/2.0/TCP 127.0.0.1:" . port(8060)
            . ";branch=z9hG4bKa$method$status"];
        my $text = ImsCall::core_request($c, $method, via => $via);
        $core->send($in, $text);
        $core->request() if $method eq 'INVITE';
        $m = $c->answer();
        $c->send(sip_reply($m, $status, 'Client Says',
            extra => ['Retry-After: 3600']));
        ($r) = $core->request();
        is($r->{status}, $told, "client's $status of $method");
        is(sip_header($r, 'Retry-After'), $told == $status ? 3600 : undef,
            "its Retry-After");
        is($c->answer()->{method}, 'ACK', "ACK of that $status")
            if $method eq 'INVITE';
    }
}

# a 1xx without a tag makes no dialog, and needs no Record-Route

{
    my $d = ImsCall->called($c, $core, $in, until => 'invite');
    my $text = $d->reply_text(180, 'Ringing', rr => []);
    $text =~ s/^Record-Route: .*\r\n//m;
    $text =~ s/^(To: [^;\r]*);tag=\S+/$1/m;
    $c->send($text);
    ($r) = $core->request();
    is($r ? $r->{status} : 'nothing', 180, '180 without a tag');
    is($d->reply(486, 'Busy')->{status}, 486, 'and the end of it');
    is($c->answer()->{method}, 'ACK', 'and its ACK');
}

# requests that go no further

{
    my %refused = (
        'another scheme' => [416, ruri => 'http://bob@ims.example'],
        'Max-Forwards 0' => [483, max_forwards => 0],
        'Proxy-Require' => [420, extra => ['Proxy-Require: sec-agree, x']],
    );

    for (sort keys %refused) {
        my ($status, %o) = @{$refused{$_}};
        $c->send($c->{ua}->request('MESSAGE', to => 'sip:b@ims.example', %o));
        $a = $c->answer();
        is($a->{status}, $status, "$_ from the client");
        is(sip_header($a, 'Unsupported'), 'sec-agree, x', 'what is not')
            if $status == 420;

        $core->send($in, ImsCall::core_request($c, 'MESSAGE', %o));
        is(($core->request())[0]->{status}, $status, "$_ from the core");
    }

    $c->send($c->{ua}->request('CANCEL', to => 'sip:b@ims.example'));
    is($c->answer()->{status}, 481, 'CANCEL of nothing');
    $core->send($in, ImsCall::core_request($c, 'CANCEL'));
    is(($core->request())[0]->{status}, 481, 'CANCEL of nothing by the core');

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:b@ims.example',
        extra => ['v: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKx']));
    is($c->answer()->{status}, 400, 'second Via');

    $core->send($in, ImsCall::core_request($c, 'OPTIONS', route => '',
        ruri => 'sip:127.0.0.1:' . port(8070)));
    is(($core->request())[0]->{status}, 200, 'OPTIONS to the edge itself');
    $core->send($in, ImsCall::core_request($c, 'MESSAGE', route => ''));
    is(($core->request())[0]->{status}, 404, 'no Route');
    $core->send($in, ImsCall::core_request($c, 'OPTIONS', route => '',
        ruri => 'soap.beep://192.0.2.103:3002'));
    is(($core->request())[0]->{status}, 416, 'OPTIONS that is no ping');

    ok($core->silent(0.1) && !defined $c->{ws}->recv(0.1), 'nothing passed');
}

# a core without branches (RFC 2543): other parts tell requests apart

for my $branch ('', ';branch=1', ';branch=z9hG4bK') {
    my %o = (via => ['SIP/2.0/TCP 127.0.0.1:' . port(8060) . $branch],
             from_tag => 'old');
    my $name = "Via with '$branch'";
    my $own = $branch =~ tr/;=//dr;

    for my $id ('old-1', 'old-2', 'old-1') {
        $core->send($in, ImsCall::core_request($c, 'MESSAGE', %o,
            call_id => "$id-$own"));
    }
    my %got;
    while (my $m = $c->answer(keys %got < 2 ? 5 : 0.5)) {
        $got{sip_header($m, 'Call-ID')}++;
        $c->send(sip_reply($m, 200, 'OK'));
        $core->request();
    }
    is_deeply(\%got, { "old-1-$own" => 1, "old-2-$own" => 1 },
        "$name: two, and a retransmission");

    $o{call_id} = "old-invite-$own";
    $core->send($in, ImsCall::core_request($c, 'INVITE', %o));
    $core->request();
    my $m = $c->answer();
    $core->send($in, ImsCall::core_request($c, 'CANCEL', %o));
    is(($core->request())[0]->{status}, 200, "$name: CANCEL of its INVITE");
    $c->send(sip_reply($m, 180, 'Ringing', to_tag => 'x', extra =>
        [map { "Record-Route: $_" } sip_headers($m, 'Record-Route')]));
    is(($core->request())[0]->{status}, 180, "$name: ringing");
    is($c->answer()->{method}, 'CANCEL', "$name: CANCEL to the client");
    $c->send(sip_reply($m, 487, 'Terminated', to_tag => 'x'));
    is(($core->request())[0]->{status}, 487, "$name: its end");
    is($c->answer()->{method}, 'ACK', "$name: ACK by the edge");
    $core->send($in, ImsCall::core_request($c, 'ACK', %o, to_tag => 'x'));
    ok(!defined $c->{ws}->recv(0.1), "$name: the ACK of the core is its own");
}

# strict routers on the core's side, and a strict request

{
    my $d = ImsCall->called($c, $core, $in);
    my ($uri) = $d->{core_route} =~ /<([^>]+)>/;
    my $last = '<' . $c->{ua}->contact() . '>';

    $core->send($in, $d->from_core('INFO', ruri => $uri,
        route => "<sip:next\@192.0.2.3;lr>, $last"));
    $m = $c->answer();
    is($m->{ruri}, $c->{ua}->contact(), 'from a strict router: R-URI mended');
    is(join('|', sip_headers($m, 'Route')), '<sip:next@192.0.2.3;lr>',
        'and Route');
    $c->send(sip_reply($m, 200, 'OK'));
    $core->request();

    my $s = ImsClient->new(user => 'strict');
    my $strict = '<sip:strict@127.0.0.1:' . port(8060) . '>';
    $s->send($s->{ua}->register());
    ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK', extra =>
        ["Service-Route: $strict, <sip:second\@192.0.2.7;lr>"]);
    $s->answer();
    $s->send($s->{ua}->request('MESSAGE', to => 'tel:+4930555'));
    ($m, $link) = $core->request();
    is($m->{ruri}, $strict =~ s/[<>]//gr, 'to a strict router: its URI');
    is(join('|', ImsCall::values_of($m, 'Route')),
        '<sip:second@192.0.2.7;lr>|<tel:+4930555>', 'and ours last in Route');
    $core->reply($link, $m, 200, 'OK');
    is($s->answer()->{status}, 200, 'answered');
    $s->{ws}->close();
}

# forms of headers

{
    my $text = $c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
        body => 'hi', extra => ['Supported: path', "Event:presence"]);
    my %short = (Via => 'v', From => 'f', To => 't', 'Call-ID' => 'i',
        'Content-Type' => 'c', 'Content-Length' => 'l', Supported => 'k',
        Event => 'o');
    $text =~ s/^([\w-]+):/($short{$1} || lc $1) . ':'/gem;
    $text =~ s/^(cseq: )(\d+) /$1$2\r\n  /m;
    $c->send($text);
    ($m, $link) = $core->request();
    is($m->{method}, 'MESSAGE', 'compact, lower case and folded');
    is($m->{body}, 'hi', 'its body');
    like($m->{text}, qr/\r\n(?:Call-ID|i): \Q$c->{ua}{call_id}\E\r\n/i,
        'its Call-ID');
    my $answer = join "\r\n", 'SIP/2.0 200 Fine',
        'v: ' . join(' , ', map { $_->[1] }
            grep { $_->[0] =~ /^(?:via|v)$/i } @{$m->{lines}}),
        (map { "$_->[0]: $_->[1]" . ($_->[0] =~ /^t/i ? ';tag=z' : '') }
            grep { $_->[0] =~ /^(?:f|t|i|from|to|call-id|cseq)$/i }
            @{$m->{lines}}), 'l: 0', '', '';
    $core->send($link, $answer);
    $a = $c->answer();
    is($a->{status}, 200, 'answer with all Via in one compact line');
    unlike($a->{text}, qr/branch=z9hG4bK[0-9a-v]{30,}/, 'ours is gone');

    # from the core: several Route values, some in one line, compact Via

    $text = ImsCall::core_request($c, 'MESSAGE', route =>
        "<$c->{path}>, <sip:x\@192.0.2.5;lr>\r\nRoute:\r\n <sip:y\@h;lr>",
        via => ['SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bKq1 ,'
                . "\r\n SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKq2",
                'SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKq3']);
    $text =~ s/^Via:/v:/gm;
    $core->send($in, $text);
    $m = $c->answer();
    is($m->{method}, 'MESSAGE', 'Route and Via in several forms');
    is(join('|', ImsCall::values_of($m, 'Route')),
        '<sip:x@192.0.2.5;lr>|<sip:y@h;lr>', 'ours popped, others kept');

    # the client may write them in its own way

    my @via = map { $_->[1] }
        grep { $_->[0] =~ /^(?:via|v)$/i } @{$m->{lines}};
    $text = sip_reply($m, 200, 'OK');
    $text =~ s/^(?:Via|v): .*\r\n//gm;
    $text =~ s/\r\n/"\r\nVIA: " . join(',', map { split m{\s*,\s*} } @via)
        . "\r\n"/e;
    $c->send($text);
    ($r) = $core->request();
    is($r ? $r->{status} : 'nothing', 200, 'response with all Via in a line');
}

# identities

{
    for (['', $pai], ["P-Preferred-Identity: <$tel>", "<$tel>"],
         ['P-Preferred-Identity: <tel:+49-30-123456>', "<$tel>"],
         ['P-Preferred-Identity: <sip:evil@ims.example>', $pai],
         ["P-Preferred-Identity: <sip:evil\@x>\r\nP-Preferred-Identity: "
          . "\"x\" <$tel>", "<$tel>"])
    {
        my ($m, $link) = sent('MESSAGE', $_->[0] || ());
        is(join('|', sip_headers($m, 'P-Asserted-Identity')), $_->[1],
            "asserted: $_->[1] for \"" . $_->[0] =~ s{\r\n}{, }r . "\"");
        unlike($m->{text}, qr/P-Preferred/, 'not passed on');
        $core->reply($link, $m, 200, 'OK');
        $c->answer();
    }

    my ($m, $link) = sent('MESSAGE', 'Privacy: id');
    is(sip_header($m, 'P-Asserted-Identity'), $pai, 'Privacy is the core\'s');
    is(sip_header($m, 'Privacy'), 'id', 'to see to');
    $core->reply($link, $m, 200, 'OK', extra => ['Privacy: id',
        'P-Asserted-Identity: <sip:secret@ims.example>']);
    unlike($c->answer()->{text}, qr/secret/, 'response with Privacy: id');

    for (['Privacy: id', 0], ['Privacy: header; id', 0], ['Privacy: none', 1]) {
        $core->send($in, ImsCall::core_request($c, 'MESSAGE', extra => [$_->[0],
            'P-Asserted-Identity: <sip:secret@ims.example>',
            'P-Charging-Vector: icid-value=x', 'P-Served-User: <sip:x@y>']));
        $m = $c->answer();
        is($m->{text} =~ /secret/ ? 1 : 0, $_->[1], "request with $_->[0]");
        unlike($m->{text}, qr/P-Charging|P-Served/, 'nothing of the core');
        $c->send(sip_reply($m, 200, 'OK'));
        $core->request();
    }

    for (["P-Called-Party-ID: <$tel>", "<$tel>"],
         ['P-Called-Party-ID: <sip:other@ims.example>', $pai])
    {
        $core->send($in, ImsCall::core_request($c, 'MESSAGE',
            extra => [$_->[0]]));
        $m = $c->answer();
        like($m->{text}, qr/\Q$_->[0]\E/, 'the client sees who is called');
        $c->send(sip_reply($m, 200, 'OK'));
        ($r) = $core->request();
        is(sip_header($r, 'P-Asserted-Identity'), $_->[1],
            'and answers as that, if it may');
    }

    $c->send($c->{ua}->request('MESSAGE', to => 'tel:+4930999'));
    ($m, $link) = $core->request();
    is($m->{ruri}, 'tel:+4930999', 'tel URI as destination');
    $core->reply($link, $m, 200, 'OK');
    $c->answer();
}

# a call to oneself: through the edge twice, each end with its own dialog

{
    my $call = ImsCall->calls($c, $core, until => 'invite');
    my $invite = $call->{invite};

    $core->send($in, ImsCall::core_request($c, 'INVITE', rr =>
        [ImsCall::far_route(), $call->{core_route}],
        call_id => $call->{call_id}, from => $c->{id}{impu},
        from_tag => $call->{wic_tag}));
    is(($core->request())[0]->{status}, 100, 'to oneself: 100');
    $m = $c->answer();
    is($m->{method}, 'INVITE', 'to oneself: INVITE comes back');
    my @rr = ImsCall::values_of($m, 'Record-Route');
    is(scalar @rr, 3, 'with both values of the edge');

    $c->send(sip_reply($m, 200, 'OK', to_tag => 'self',
        contact => '<' . $c->{ua}->contact() . '>',
        extra => ['Record-Route: ' . join ', ', @rr]));
    ($r) = $core->request();
    is($r ? $r->{status} : 'nothing', 200, 'the answer passes');

    $core->send($call->{link}, sip_reply($invite, 200, 'OK',
        to_tag => 'self', extra => ['Record-Route: ' . join ', ', @rr]));
    $a = $c->answer();
    is($a->{status}, 200, 'and comes back to the caller');

    my @route = reverse ImsCall::values_of($a, 'Record-Route');
    $c->send($call->from_client('BYE', to_tag => 'self', routes => \@route));
    ($m, $link) = $core->request();
    is($m ? $m->{method} : 'nothing', 'BYE', 'who can hang up');
    is(join('|', sip_headers($m, 'Route')), "$route[1]|$route[2]",
        'by all nodes of the call');
    $core->reply($link, $m, 200, 'OK');
    $c->answer();

    $c->send($call->from_client('INFO', from_tag => 'self',
        to_tag => $call->{wic_tag}, routes => \@rr));
    ($m, $link) = $core->request();
    is($m ? $m->{method} : 'nothing', 'INFO', 'and so can who was called');
    $core->reply($link, $m, 200, 'OK');
    $c->answer();
}

# charging and access: the edge's word in requests and responses

{
    my @own = ('P-Charging-Vector: icid-value=mine',
        'P-Access-Network-Info: X;network-provided');

    my ($m, $link) = sent('MESSAGE', @own);
    like(join('|', sip_headers($m, 'P-Charging-Vector')),
        qr/^icid-value="[0-9a-f]{32}";orig-ioi="ims\.example"$/,
        'request: an icid of its own');
    is(join('|', sip_headers($m, 'P-Access-Network-Info')),
        'IEEE-802.11;network-provided', 'and where the client is');
    $core->reply($link, $m, 200, 'OK');
    $c->answer();

    for (['icid-value="a b;c";orig-ioi=far.example',
          'icid-value="a b;c";orig-ioi=far.example;term-ioi="ims.example"'],
         ['icid-value=x;term-ioi=y', 'icid-value=x;term-ioi=y'],
         ['icid-value="x', ''], ['icid-value=' . 'x' x 1100, ''],
         ['', ''])
    {
        my ($theirs, $told) = @$_;

        $core->send($in, ImsCall::core_request($c, 'INVITE', extra =>
            [$theirs ne '' ? "P-Charging-Vector: $theirs" : ()]));
        $core->request();
        $m = $c->answer();
        unlike($m->{text}, qr/P-Charging/, 'the client sees nothing of it');

        for my $status (180, 486) {
            $c->send(sip_reply($m, $status, 'X', to_tag => 'x',
                extra => [@own, 'Record-Route: '
                          . sip_header($m, 'Record-Route')]));
            ($r) = $core->request();
            is($r->{status} . ' ' . join('|',
                sip_headers($r, 'P-Charging-Vector')), "$status $told",
                substr "response to $theirs", 0, 60);
            is(join('|', sip_headers($r, 'P-Access-Network-Info')),
                'IEEE-802.11;network-provided', 'and where the client is');
        }
        $c->answer();
    }
}

# GRUU (RFC 5627): both kinds pass to the client, and bring it what is sent to
# them. And how long an idle flow is kept (RFC 5626)

{
    my $g = ImsClient->new(user => 'gruu');
    $g->send($g->{ua}->register());
    ($m, $link) = $core->request();
    like(sip_header($m, 'Supported'), qr/\bgruu\b/, 'GRUU is asked for');
    my $gruu = ";pub-gruu=\"$g->{id}{impu};gr=urn:uuid:1\""
        . ';temp-gruu="sip:tgruu.7hs@ims.example;gr"';
    $core->reply($link, $m, 200, 'OK', contact => sip_header($m, 'Contact')
        . $gruu, extra => ['Require: outbound']);
    $a = $g->answer();
    like(sip_header($a, 'Contact'), qr/\Q$gruu\E/, 'and given');
    is(sip_header($a, 'Flow-Timer'), 45, 'Flow-Timer');
    is(sip_header($a, 'Require'), 'outbound', 'Require: outbound');
    ($g->{path}) = sip_header($m, 'Path') =~ /<(sip:[^>]+)>/;

    for my $uri ("$g->{id}{impu};gr=urn:uuid:1", 'sip:tgruu.7hs@ims.example;gr')
    {
        $core->send($in, ImsCall::core_request($g, 'MESSAGE', ruri => $uri));
        $m = $g->answer();
        is($m ? $m->{ruri} : 'nothing', $uri, 'a message to it');
        $g->send(sip_reply($m, 200, 'OK'));
        is(($core->request())[0]->{status}, 200, 'answered');
    }

    $g->send($g->{ua}->request('INVITE', to => 'sip:bob@ims.example',
        extra => ["Contact: <$g->{id}{impu};gr=urn:uuid:1>",
                  'Supported: gruu']));
    ($m, $link) = $core->request();
    is(sip_header($m, 'Contact'), "<$g->{id}{impu};gr=urn:uuid:1>",
        'as Contact of a call');
    $g->answer();
    $core->reply($link, $m, 486, 'Busy');
    $core->request();
    $g->answer();
    $g->{ws}->close();
}

# two devices of one user

{
    my $other = ImsClient->new(user => 'alice');
    is($other->{id}{impu}, $c->{id}{impu}, 'one identity');
    ImsCall::registered($other, $core);
    isnt($other->{path}, $c->{path}, 'two flows');

    for (['first', $c], ['second', $other]) {
        my ($name, $to) = @$_;
        $core->send($in, ImsCall::core_request($to, 'MESSAGE', body => $name));
        $m = $to->answer();
        is($m ? $m->{body} : 'nothing', $name, "$name device");
        $to->send(sip_reply($m, 200, 'OK'));
        $core->request();
    }

    my $d = ImsCall->calls($other, $core);
    $c->send($d->from_client('BYE'));
    is($c->answer()->{status}, 403, 'dialog of the other device');
    $other->{ws}->close();
    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    is($c->answer()->{method}, 'MESSAGE', 'one goes, the other stays');
}

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# a request of the client as the core has it

sub sent {
    my ($method, @extra) = @_;

    $c->send($c->{ua}->request($method, to => 'sip:bob@ims.example',
        call_id => 'sent-' . int rand 1e9, extra => \@extra));

    return $core->request();
}


sub cancel {
    my ($invite) = @_;

    my $text = $invite =~ s/^INVITE/CANCEL/r;
    $text =~ s/^(CSeq: \d+ )INVITE/$1CANCEL/m;
    $text =~ s/^(?:Contact|Content-Type): .*\r\n//mg;
    $text =~ s/^Content-Length: .*?\z/Content-Length: 0\r\n\r\n/ms;

    return $text;
}

###############################################################################
